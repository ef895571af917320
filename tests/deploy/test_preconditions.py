"""The checks on the embedded cohort: skull-stripped brains, heads, and volumes that were moved, rotated and cropped."""

import numpy as np
import pytest
from nibabel.affines import apply_affine, from_matvec
from scipy.spatial.transform import Rotation

from deploy.preparation import damaged_series, failed_checks
from scripts.prepare.volumes import Volume, resample
from tests.deploy.dicom.dicom_study import brats_files, header, read


def load(path):
    array, affine = read(path)
    return Volume(array.astype(np.float32), affine)


@pytest.fixture(scope="module")
def brats(cohorts):
    return {modality: load(path) for modality, path in brats_files(cohorts("brats")).items()}


def moved(volume, shift=(0, 0, 0), degrees=0):
    """Return a volume, shifted by `shift` mm and rotated by `degrees` about the x axis through its centre."""
    centre = apply_affine(volume.affine, np.array(volume.array.shape) / 2)
    turn = Rotation.from_euler("x", degrees, degrees=True).as_matrix()
    return Volume(volume.array, from_matvec(turn, centre - turn @ centre + shift) @ volume.affine)


def check(volumes):
    aligned = {modality: resample(volume, volumes["T1ce"].grid) for modality, volume in volumes.items()}
    return failed_checks(volumes, aligned, "T1ce", skull_stripped=True, in_mni_space=False)


def test_prepared_scans_pass_also_2_mm_off_and_those_with_skull_do_not(brats, cohorts):
    assert check(brats) == []
    assert check(brats | {"T2": moved(brats["T2"], (2, 0, 0))}) == []
    sentences = check({modality: load(path) for modality, path in brats_files(cohorts("brats", False)).items()})
    assert [sentence.endswith("not skull-stripped") for sentence in sentences] == [True] * 4


def test_a_modality_that_is_not_registered_covers_a_part_or_is_small_is_reported(brats):
    for off in (moved(brats["T2"], (6, 0, 0)), moved(brats["T2"], degrees=15)):
        (sentence,) = check(brats | {"T2": off})
        assert sentence.startswith("T2: its brain overlaps the brain in T1ce by 0.")
    part = Volume(brats["FLAIR"].array[:, :, :20], brats["FLAIR"].affine)
    thin, covered = check(brats | {"FLAIR": part})
    assert thin == "FLAIR: shows 80 mm of a head along one axis; expected a whole brain"
    assert covered.startswith("FLAIR: covers ")
    piece = brats["T2"].array.copy()
    piece[:, 18:] = 0
    assert "less than a brain" in check(brats | {"T2": Volume(piece, brats["T2"].affine)})[0]


def test_a_head_off_mni_space_is_reported(cohorts):
    def check_head(volume):
        volumes = {"T1": volume}
        return failed_checks(volumes, volumes, "T1", skull_stripped=False, in_mni_space=True)

    head = load(next(cohorts("atlas").rglob("*_T1w.nii.gz")))
    assert check_head(head) == []
    (sentence,) = check_head(moved(head, (0, 0, -10)))
    assert sentence.startswith("T1: its brain overlaps the brain of MNI152 by 0.")


@pytest.mark.parametrize(
    ("stated", "spacing", "thickness", "missing"),
    [
        (4, 5, 5, ""),
        (8, 5, 5, ""),  # two echoes
        (5, 5, 5, "4 of 5 images (ImagesInAcquisition)"),
        (8, 2.5, 4, "slices 5.00 mm apart, 2.50 mm by SpacingBetweenSlices"),  # every other slice is lost
        (None, 2.5, 2, "slices 5.00 mm apart, 2.50 mm by SpacingBetweenSlices"),
        (None, 2.5, 4, ""),  # a gap
        (None, 3, 2, ""),  # no multiple
    ],
)
def test_slices_that_are_missing_evenly_are_reported(stated, spacing, thickness, missing):
    """An acquisition may count the images of several echoes, and SpacingBetweenSlices may be the gap between slices."""
    words = {"ImagesInAcquisition": stated, "SpacingBetweenSlices": spacing, "SliceThickness": thickness}
    volumes = {"T2": Volume(np.zeros((2, 2, 4), np.float32), np.diag([1, 1, 5.0, 1]))}
    assert damaged_series({"T2": [header(**words)] * 4}, volumes) == ([f"T2: {missing}"] if missing else [])


def test_end_slices_that_another_series_has_are_reported():
    volumes = {name: Volume(np.zeros((2, 2, count), np.float32), np.eye(4)) for name, count in (("T1", 9), ("T2", 7))}
    slices = {name: [header()] * volume.array.shape[2] for name, volume in volumes.items()}
    assert damaged_series(slices, volumes) == ["T2: lacks end slices that T1 has on the same grid: 2"]
