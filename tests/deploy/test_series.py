"""The dry run: choice, evidence and questions of studies and names."""

import re

import numpy as np
import pytest

from deploy.dicom.study import read_study
from deploy.series import preview
from tests.deploy.dicom.checks import refusal
from tests.deploy.dicom.dicom_study import VOXELS, Study, change, write_brats, write_modality


@pytest.fixture
def printed(capsys):
    """Runs the dry run; returns what it prints, without a word of a patient, and its warnings."""

    def run(path, **options):
        preview(str(path), **options)
        out, err = capsys.readouterr()
        assert "SENTINEL" not in out + err
        return out, err

    return run


@pytest.fixture
def export(tmp_path):
    """A folder with the files of three studies of two patients, in no order; the second states no contrast agent."""
    identity, folder, files = Study(), tmp_path / "export", []
    for number, study in enumerate((identity, Study(), Study().other_patient())):
        write_brats(tmp_path / str(number), None, study)
        files += sorted((tmp_path / str(number)).rglob("*.dcm"))
    for file in (tmp_path / "1/3").iterdir():
        change(file, ContrastBolusAgent="", SeriesDescription="t1_mprage_tra")
    folder.mkdir()
    for number, file in zip(np.random.default_rng(0).permutation(len(files)), files, strict=True):
        file.rename(folder / f"SENTINEL{number:03d}.dcm")
    return folder, identity


def test_the_files_of_several_studies_are_sorted_by_study(export, printed):
    folder, identity = export
    assert refusal(read_study, folder) == "--input: contains 3 studies; expected one study"
    out, err = printed(folder)
    assert err == ""
    assert out.endswith("3 studies, 1 with a question\n")
    studies = re.split(r"study \d of 3 \(UID \.\.\.\d{8}\)\n", out)[1:]
    assert [len(re.findall("^  series [2-5] .*, 12 images: ", study, re.MULTILINE)) for study in studies] == [4, 4, 4]
    assert ["  T1ce: series 3 (UID " in study for study in studies].count(True) == 2
    assert "  question: T1ce: no series states contrast agent in its name or header: series 3" in out
    write_modality(folder / "6", VOXELS, np.eye(4), identity.other_patient(), 6, "T1")
    assert "  question: contains images of 2 patients; expected one patient\n" in printed(folder)[0]


def test_names_are_read_line_by_line(tmp_path, printed):
    (tmp_path / "names.txt").write_text("T1 KM\nT1 s KM\n\nT2 Innenohr\nHIRN 7\n")
    (tmp_path / "table.yaml").write_text("HIRN ?: FLAIR")
    out, _ = printed(tmp_path / "names.txt", series_names=str(tmp_path / "table.yaml"))
    assert [line.split(": ")[0] for line in out.splitlines()] == ["T1ce", "doubtful", "doubtful", "FLAIR"]
