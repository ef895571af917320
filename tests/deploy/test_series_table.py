"""The tables of series, one by one and as studies through the application: no wrong series, few needless questions."""

import os
import shutil
from pathlib import Path

import pytest

pytest.importorskip("monai.deploy", reason="needs the environment of make deploy")

import numpy as np

from common.errors import InputError
from deploy import app
from deploy.series_choice import MIN_SLICES, modality_of
from tests.deploy.dicom_study import Study, write_modality, write_series
from tests.deploy.series_table import CODE, DAY, HELD_OUT, PUBLIC, TABLE, Row, read_table
from tests.support import ROOT

ROWS = read_table(TABLE)
MODALITIES = ("FLAIR", "T1ce", "T1", "T2")
ACQUIRED = {"FLAIR": "100000", "T2": "100500", "T1": "100800", "T1ce": "103500"}
VOXELS = np.ones((4, 4, MIN_SLICES), np.uint16)
NUMBER = 9  # of the row's series
MOST_REFUSED = {TABLE: 0.05, HELD_OUT: 0.05, PUBLIC: 0.05, CODE: 0.1}  # of the series that have one right answer


def test_the_table_is_as_large_and_as_hostile_as_its_purpose_asks_for():
    assert len(ROWS) >= 300
    assert sum(row.hostile for row in ROWS) >= len(ROWS) / 2
    assert {row.expected for row in ROWS} == {*MODALITIES, "none", "ask"}
    assert len({repr(row.attributes) for row in ROWS}) == len(ROWS)


def report(answers: dict[Row, str]) -> tuple[list[str], float, str]:
    """The wrong answers, the share of needless questions, and both in words.

    An answer is wrong if it is a modality other than the expected one; "ask" and "none" never are.
    """
    wrong = [
        f"{row.name}, got {answer}" for row, answer in answers.items() if answer not in ("ask", "none", row.expected)
    ]
    right = [row for row in answers if row.expected in MODALITIES]
    refused = [row for row in right if answers[row] in ("ask", "none")]
    share = len(refused) / len(right)
    lines = [f"{len(wrong)} wrong of {len(answers)}; {len(refused)} of {len(right)} needlessly refused ({share:.1%})"]
    return wrong, share, "\n".join([*lines, *wrong, *(f"refused: {row.name}" for row in refused)])


@pytest.mark.parametrize("table", [TABLE, HELD_OUT, PUBLIC, CODE], ids=lambda path: path.stem)
def test_no_series_gets_a_wrong_modality_and_few_are_refused(table):
    wrong, share, text = report({row: modality_of(row.header()) or "none" for row in read_table(table)})
    assert not wrong, text
    assert share < MOST_REFUSED[table], text


@pytest.fixture
def choose(models, tmp_path, monkeypatch):
    """Runs the application up to the choice on a row's series among others; gives modality -> number, or None."""
    monkeypatch.setattr(app, "restrict_output", lambda: None)
    chosen: list[dict[str, int]] = []
    monkeypatch.setattr(
        app, "_run", lambda _, choice, *__: chosen.append({key: one.number for key, one in choice.series.items()})
    )
    bundle, checkpoint = str(ROOT / "bundles/brats_finetune"), str(models("brats"))
    opened = app.open_bundle(Path(bundle), Path(checkpoint))
    monkeypatch.setattr(app, "open_bundle", lambda *_: opened)
    identity = Study()
    for number, modality in enumerate(MODALITIES, 1):
        times = {"StudyDate": DAY, "AcquisitionTime": ACQUIRED[modality]}
        write_modality(tmp_path / "others" / modality, VOXELS, np.eye(4), identity, number, modality, **times)

    def run(row: Row, others: tuple[str, ...]) -> dict[str, int] | None:
        study = tmp_path / "study"
        shutil.rmtree(study, ignore_errors=True)
        for modality in others:
            shutil.copytree(tmp_path / "others" / modality, study / modality, copy_function=os.link)
        attributes = {"StudyDate": DAY, "ScanningSequence": "RM"} | row.attributes
        write_series(study / "row", VOXELS, np.eye(4), identity, NUMBER, **attributes)
        chosen.clear()
        try:
            app.segment(str(study), bundle, str(tmp_path / "out"), checkpoint=checkpoint)
        except InputError as error:
            message = str(error)
        else:
            return chosen[0]
        assert "\n" not in message
        assert "--series=" in message
        return None

    return run


@pytest.mark.slow
@pytest.mark.parametrize("table", [TABLE, HELD_OUT, PUBLIC, CODE], ids=lambda path: path.stem)
def test_studies_get_the_right_series_or_a_question(choose, table):
    """Each series completes a study that lacks its modality; one without modality is added to a complete study."""
    answers = {}
    for row in read_table(table):
        if row.expected == "ask":
            choices = [choose(row, ("FLAIR", "T2", other)) for other in ("T1", "T1ce")]
        else:
            lacking = tuple(modality for modality in MODALITIES if modality != row.expected)
            choices = [choose(row, lacking)]
        taken = {key for choice in choices if choice for key, number in choice.items() if number == NUMBER}
        answers[row] = taken.pop() if taken else "ask" if None in choices else "none"
    wrong, share, text = report(answers)
    assert not wrong, text
    assert share < MOST_REFUSED[table], text
    assert [row.name for row, answer in answers.items() if row.expected == "none" and answer != "none"] == []


@pytest.mark.slow
def test_a_series_never_takes_the_place_of_a_missing_modality(choose):
    """Without a T1ce, no hostile series becomes it, nor T1 without a T1: the answer is a question."""
    wrong = []
    for row in (row for row in ROWS if row.hostile):
        for missing in {"T1", "T1ce"} - {row.expected}:
            others = tuple(modality for modality in MODALITIES if modality != missing)
            choice = choose(row, others)
            if choice is not None:
                wrong.append(f"{row.name}, without {missing}: {choice}")
    assert not wrong, "\n".join(wrong)
