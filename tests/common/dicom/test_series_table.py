"""The tables of series as sites name them, one by one and as part of studies: no wrong series, few needless questions.

A table holds header evidence, and the modality that a neuroradiologist would expect: of `MODALITIES`,
"none" or "ask".
"""

import csv
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from common.dicom.series.choice import MIN_SLICES, choose_series
from common.dicom.study import Instance, Series, read_study
from common.errors import InputError
from tests.common.dicom.checks import modality_of
from tests.common.dicom.dicom_study import Study, header, write_modality, write_series

pytestmark = pytest.mark.slow  # minutes

REFUSED = {  # of the 1,210 series with one right answer; docs/explanation/dicom-series.md has the sum
    "series_descriptions": 29,
    "series_descriptions_held_out": 4,
    "series_descriptions_public": 27,  # of public collections, written by their sites
    "series_descriptions_strangers": 6,  # written without sight of rules and words
    "series_descriptions_code": 7,  # quoted by public code
    "series_descriptions_languages": 11,  # in 16 languages
}
MODALITIES = ("FLAIR", "T1ce", "T1", "T2")
ACQUIRED = {"FLAIR": "100000", "T2": "100500", "T1": "100800", "T1ce": "103500"}
VOXELS = np.ones((4, 4, MIN_SLICES), np.uint16)
NUMBER = 9  # of the row's series
KEYWORDS = {"description": "SeriesDescription", "protocol": "ProtocolName", "agent": "ContrastBolusAgent"}
KEYWORDS |= {"injected": "ContrastBolusStartTime", "acquired": "AcquisitionTime", "echo": "EchoTime"}
KEYWORDS |= {"repetition": "RepetitionTime", "inversion": "InversionTime", "body": "BodyPartExamined"}
LISTS = {"sequence": "ScanningSequence", "image_type": "ImageType"}  # their values are separated by blanks


class Row:
    """A series: its expected modality and its attributes by keyword."""

    def __init__(self, number: int, line: dict[str, str]) -> None:
        self.expected, self.hostile = line["expected"], line["hostile"] == "y"
        self.attributes = {keyword: line[name] for name, keyword in KEYWORDS.items() if line.get(name)}
        self.attributes |= {keyword: line[name].split() for name, keyword in LISTS.items() if line.get(name)}
        self.attributes["StudyDate"] = "20260102"
        self.name = f"line {number}, {self.attributes}: expected {self.expected}"


@cache
def read_table(name: str) -> list[Row]:
    with Path(__file__).with_name(f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return [Row(number, line) for number, line in enumerate(csv.DictReader(file), 2)]


def check(answers: dict[Row, str], most_refused: int) -> None:
    """Check that no answer is a wrong modality, and that few series are refused: `ask` or `none` for a modality."""
    wrong = [
        f"{row.name}, got {answer}" for row, answer in answers.items() if answer not in ("ask", "none", row.expected)
    ]
    assert not wrong, "\n".join(wrong)
    right = {row: answer for row, answer in answers.items() if row.expected in MODALITIES}
    refused = [row.name for row, answer in right.items() if answer in ("ask", "none")]
    assert len(refused) <= most_refused, f"{len(refused)} of {len(right)}\n" + "\n".join(refused)


@pytest.mark.parametrize("table", REFUSED)
def test_no_series_gets_a_wrong_modality_and_few_are_refused(table):
    check({row: modality_of(header(**row.attributes)) or "none" for row in read_table(table)}, REFUSED[table])


@pytest.fixture(scope="module")
def choose(tmp_path_factory):
    """Returns a function that chooses from a row's series and series of `modalities`: numbers by modality, or None."""
    identity, folder = Study(), tmp_path_factory.mktemp("tables")
    for number, modality in enumerate(MODALITIES, 1):
        times = {"StudyDate": "20260102", "AcquisitionTime": ACQUIRED[modality]}
        write_modality(folder / "others" / modality, VOXELS * number, np.eye(4), identity, number, modality, **times)
    others = dict(zip(MODALITIES, read_study(folder / "others"), strict=True))

    write_series(folder / "row", VOXELS * NUMBER, np.eye(4), identity, NUMBER)
    (base,) = read_study(folder / "row")

    def series_of(row):
        instances = []
        for instance in base.instances:
            changed = header()
            changed.update(instance.header)
            changed.update(header(**row.attributes))
            if row.expected in MODALITIES:  # what a scanner writes, too: a name alone is no proof
                changed.AcquisitionTime = changed.get("AcquisitionTime") or ACQUIRED[row.expected]
            if row.expected == "T1ce":
                changed.ContrastBolusAgent = changed.get("ContrastBolusAgent") or "gadobutrol"
            instances.append(Instance(instance.path, changed))
        return Series(base.uid, tuple(instances))

    def run(row, modalities):
        try:
            choice = choose_series([*(others[modality] for modality in modalities), series_of(row)], MODALITIES, {})
        except InputError as error:
            message = str(error)
        else:
            return {modality: series.number for modality, series in choice.series.items()}
        assert "--series=" in message or "; expected a study with a series of " in message
        return None

    return run


def without(modality):
    return [other for other in MODALITIES if other != modality]


@pytest.mark.parametrize("table", sorted(REFUSED.keys() - {"series_descriptions_languages"}))
def test_studies_get_the_right_series_or_a_question(choose, table):
    """Each series completes a study that lacks its modality; a series without modality joins a complete study."""
    answers = {}
    for row in read_table(table):
        lacking = ("T1ce", "T1") if row.expected == "ask" else (row.expected,)
        choices = [choose(row, without(modality)) for modality in lacking]
        taken = {key for choice in choices if choice for key, number in choice.items() if number == NUMBER}
        answers[row] = taken.pop() if taken else "ask" if None in choices else "none"
    check(answers, REFUSED[table])
    assert [row.name for row, answer in answers.items() if row.expected == "none" and answer != "none"] == []


def test_a_series_never_takes_the_place_of_a_missing_modality(choose):
    """In a study without T1ce or T1, no hostile series is chosen for it: the answer is a question."""
    hostile = [row for row in read_table("series_descriptions") if row.hostile]
    assert len(hostile) > 300
    for row in hostile:
        for missing in {"T1", "T1ce"} - {row.expected}:
            assert choose(row, without(missing)) is None, f"{row.name}, without {missing}"
