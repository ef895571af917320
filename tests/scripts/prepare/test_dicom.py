"""Subjects that are DICOM studies, as files on disk; whatever names the patient says SENTINEL."""

import json
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest

from common.errors import InputError
from scripts.prepare.scans import find_subjects
from tests.common.dicom.dicom_study import Study, read, write_localiser, write_modality
from tests.scripts.prepare.moved_heads import errors
from tests.support import one_line

VOXELS = np.arange(4 * 4 * 12, dtype=np.uint16).reshape(4, 4, 12)
TEXTS = {"ProtocolName": "SENTINEL", "InstitutionName": "SENTINEL", "PatientComments": "SENTINEL"}


@pytest.fixture(scope="module")
def studies(cohort, run_prepare, tmp_path_factory):
    """The subject of `cohort` as a DICOM study with slices in random order, prepared by the command."""
    folder = tmp_path_factory.mktemp("dicom")
    study = Study()
    write_localiser(folder / "raw/one/SENTINEL/1", study)
    for number, modality in enumerate(("T1", "FLAIR"), 2):
        array, affine = read(cohort.folder / "raw" / cohort.subject / f"{cohort.subject}_{modality}.nii.gz")
        place = folder / f"raw/one/SENTINEL/{number}"
        write_modality(place, array, affine, study, number, modality, shuffle=True, **TEXTS)
        for path in place.iterdir():
            path.rename(path.with_name(f"SENTINEL {path.stem}"))
    options = ["--like=ukb", f"--root={folder / 'raw'}", f"--output={folder / 'out'}", "--spacing=4"]
    return SimpleNamespace(folder=folder, options=options, result=run_prepare(*options))


def record(folder, subject):
    return json.loads((folder / "out" / subject / "prepare.json").read_text())


def test_a_study_is_prepared_like_the_same_scans_in_nifti_files(studies, cohort):
    assert studies.result.returncode == 0, studies.result.stdout + studies.result.stderr
    assert np.percentile(errors(record(studies.folder, "one"), cohort.truth)["FLAIR"], 95) < 3
    for modality in ("T1", "FLAIR"):
        one = nibabel.load(studies.folder / f"out/one/one_{modality}.nii.gz").get_fdata()
        other = nibabel.load(cohort.folder / "out" / cohort.subject / f"{cohort.subject}_{modality}.nii.gz").get_fdata()
        both = (one > 0) & (other > 0)  # the brains may differ by a few voxels of 4 mm
        assert both.sum() > 0.95 * max((one > 0).sum(), (other > 0).sum())
        assert np.corrcoef(one[both], other[both])[0, 1] > 0.99


def test_nothing_that_is_written_or_printed_names_the_patient(studies):
    assert "SENTINEL" not in studies.result.stdout + studies.result.stderr
    for path in (studies.folder / "out").rglob("*"):
        assert "SENTINEL" not in path.name
        if path.is_file() and path.suffix != ".gz":
            assert b"SENTINEL" not in path.read_bytes()
        elif path.is_file():
            header = nibabel.load(path).header
            assert not any(bytes(header[name]).strip(b"\0") for name in ("descrip", "intent_name", "db_name"))
    sources = record(studies.folder, "one")["sources"]
    assert sources["T1"]["evidence"] == "T1 by its name"
    assert sources["T1"]["series"].startswith("series 2 (UID ...")
    assert sources["FLAIR"].keys() == {"series", "images", "evidence", "sha256", "shape", "affine"}


def write_t1(folder, study, number, **options):
    write_modality(folder / str(number), VOXELS, np.eye(4), study, number, "T1", **options)


def subject_of(root, series=None):
    (subject,) = find_subjects(root, ["T1"], {}, series)
    return subject


def fault_of(root):
    subject = subject_of(root)
    with pytest.raises(InputError) as error:
        subject.scans(["T1"])[0]["T1"].read()
    assert "SENTINEL" not in one_line(error)
    return one_line(error)


def test_two_series_are_a_question_that_an_option_answers(tmp_path):
    study = Study()
    for number in (4, 5):
        write_t1(tmp_path / "one", study, number)
    assert fault_of(tmp_path).startswith("T1: 2 series match: series 4")
    assert fault_of(tmp_path).endswith("; select one with --series=\"{'one': 'T1=NUMBER'}\"")
    scans, _ = subject_of(tmp_path, {"one": {"T1": "5"}}).scans(["T1"])
    assert scans["T1"].series.number == 5
