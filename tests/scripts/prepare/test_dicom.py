"""Subjects that are DICOM studies, as files on disk; whatever names the patient says SENTINEL."""

import json
import shutil
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest

from common.errors import InputError
from scripts.prepare.__main__ import back, prepare
from scripts.prepare.scans import find_subjects
from scripts.prepare.trial import errors
from tests.deploy.dicom_study import Study, read, write_localiser, write_modality
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


def points_of(cohort, modality):
    """Points of the brain where the scanner saw them, mm."""
    motion = cohort.truth[f"motion_{modality}"]
    return cohort.truth["points"] @ motion[:3, :3].T + motion[:3, 3]


def test_a_study_is_prepared_like_the_same_scans_in_nifti_files(studies, cohort):
    assert studies.result.returncode == 0, studies.result.stdout + studies.result.stderr
    found, expected = record(studies.folder, "one"), record(cohort.folder, cohort.subject)
    assert np.percentile(errors(found, cohort.truth)["FLAIR"], 95) < 3
    for modality in ("T1", "FLAIR"):
        one, other = (np.array(each["transforms"][modality]["matrix"]) for each in (found, expected))
        centre = np.linalg.inv(other) @ [*points_of(cohort, modality).mean(axis=0), 1]
        np.testing.assert_allclose(one @ centre, other @ centre, atol=0.5)  # voxels have 4 mm
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
    assert sources["T1"]["evidence"] == "T1 by its words"
    assert sources["T1"]["series"].startswith("series 2 (UID ...")
    assert sources["FLAIR"].keys() == {"series", "images", "evidence", "sha256", "shape", "affine"}


def test_files_under_new_names_are_the_same_study(studies, run_prepare):
    for number, path in enumerate(sorted((studies.folder / "raw/one/SENTINEL/2").iterdir())):
        path.rename(path.with_name(f"{9000 - number}.dcm"))
    assert "0 new, 1 done before, 0 failed" in run_prepare(*studies.options).stdout


def test_a_label_map_returns_to_the_grid_of_a_series(studies, cohort, tmp_path):
    (tmp_path / "maps").mkdir()
    shutil.copy(studies.folder / "out/one/one_brain_mask.nii.gz", tmp_path / "maps/one.nii.gz")
    back(str(studies.folder / "out"), str(tmp_path / "maps"), str(tmp_path / "back"), modality="FLAIR")
    found = nibabel.load(tmp_path / "back/one.nii.gz")
    raw = nibabel.load(cohort.folder / "raw" / cohort.subject / f"{cohort.subject}_FLAIR.nii.gz")
    points = np.argwhere(found.get_fdata() > 0) @ found.affine[:3, :3].T + found.affine[:3, 3]
    np.testing.assert_allclose(points.mean(axis=0), points_of(cohort, "FLAIR").mean(axis=0), atol=3)
    canonical = [nibabel.as_closest_canonical(each) for each in (found, raw)]
    assert canonical[0].shape == canonical[1].shape
    np.testing.assert_allclose(canonical[0].affine, canonical[1].affine, atol=1e-3)


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
    scans, _ = subject_of(tmp_path, {"one": {"T1": "5"}}).scans(["T1"])
    assert scans["T1"].series.number == 5


def test_series_of_two_frames_of_reference_are_registered(tmp_path):
    write_t1(tmp_path / "one", Study("1.2", "1.3"), 2)
    write_modality(tmp_path / "one/3", VOXELS, np.eye(4), Study("1.2", "1.4"), 3, "FLAIR")
    (subject,) = find_subjects(tmp_path, ["T1", "FLAIR"], {})
    scans, _ = subject.scans(["T1", "FLAIR"])
    assert {modality: scan.series.number for modality, scan in scans.items()} == {"T1": 2, "FLAIR": 3}


def cut(folder):
    path = max((folder / "2").iterdir())
    path.write_bytes(path.read_bytes()[:-20])


def empty(folder):
    (folder / "2/001.dcm").write_bytes(b"")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, "voxels cannot be read"),
        (empty, "DICOM: contains a DICOM file that is empty or damaged; expected complete files"),
        (lambda folder: write_t1(folder, Study(), 3), "DICOM: contains 2 studies; expected one study"),
        (
            lambda folder: write_t1(folder, Study().other_patient(), 3),
            "DICOM: contains images of 2 patients; expected one",
        ),
        (lambda folder: next((folder / "2").iterdir()).unlink(), "is a slice missing?"),
    ],
)
def test_a_bad_study_is_refused_in_one_line(tmp_path, damage, message):
    write_t1(tmp_path / "one", Study(), 2, **TEXTS)
    damage(tmp_path / "one")
    assert message in fault_of(tmp_path)


def test_an_image_of_one_value_is_refused_by_the_name_of_its_series(tmp_path):
    write_modality(tmp_path / "one", np.ones((4, 4, 12)), np.eye(4), Study(), 2, "T1")
    assert fault_of(tmp_path).startswith("series 2 (UID ...")
    assert "1 everywhere; expected an image" in fault_of(tmp_path)


def test_nifti_files_beside_a_study_are_taken(tmp_path):
    write_t1(tmp_path / "one", Study(), 2)
    (tmp_path / "one/one_T1.nii.gz").write_bytes(b"")
    assert subject_of(tmp_path).files["T1"].name == "one_T1.nii.gz"


@pytest.mark.parametrize(
    ("series", "message"),
    [
        ("T1=5", "--series=T1=5: expected series by subject, such as"),
        ({"nobody": "T1=5"}, "--series: nobody is no DICOM study in "),
        ({"one": "T9=5"}, "--series=T9=5: expected MODALITY=NUMBER, at most once for each of T1"),
    ],
)
def test_a_bad_option_is_refused(tmp_path, series, message):
    write_t1(tmp_path / "raw/one", Study(), 2)
    with pytest.raises(InputError) as error:
        prepare(root=str(tmp_path / "raw"), output=str(tmp_path / "out"), like="atlas", series=series)
    assert one_line(error).startswith(message)
    assert not (tmp_path / "out").exists()
