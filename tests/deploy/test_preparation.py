"""`--prepare` on heads with skull, whose series are turned and moved independently, and the way back."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from common.metrics.measures import dice
from deploy.dicom.geometry import volume_of
from deploy.dicom.study import Instance, Series
from deploy.preparation import failed_checks, missing_slices, prepare_scans
from scripts.prepare.volumes import Volume
from tests.deploy.dicom.dicom_study import Study, brats_files, header, read, write_modality


def motion(seed):
    """Return a rotation by up to 12 degrees about each axis and a shift by up to 15 mm, [4, 4] in mm."""
    rng = np.random.default_rng(seed)
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", rng.uniform(-12, 12, 3), degrees=True).as_matrix()
    matrix[:3, 3] = rng.uniform(-15, 15, 3)
    return matrix


def chosen(volumes):
    return {
        name: Series("1.2", (Instance(Path(), header(SeriesNumber=number)),)) for number, name in enumerate(volumes, 2)
    }


def bundle_of(cohort, spacing=(1.0, 1.0)):
    return SimpleNamespace(space=cohort, skull_stripped=cohort == "brats", spacing=spacing)


def test_prepared_heads_meet_the_preconditions_and_results_return_to_the_reference(cohorts, tmp_path):
    """The brain of the same phantom without skull is the truth."""
    study, heads = Study(), {}
    for number, (modality, path) in enumerate(brats_files(cohorts("brats", False)).items(), 2):
        array, affine = read(path)
        slices = write_modality(tmp_path / modality, array, motion(number) @ affine, study, number, modality)
        heads[modality], _ = volume_of(slices, modality)
    assert len(failed_checks(heads, {"T1ce": heads["T1ce"]}, "T1ce", True, False)) >= 4

    volumes, preparation = prepare_scans(heads, chosen(heads), bundle_of("brats"), "T1ce")

    assert {volume.array.shape for volume in volumes.values()} == {(240, 240, 155)}
    assert failed_checks(volumes, volumes, "T1ce", True, False) == preparation.failed == []
    back = preparation.segments_on(heads["T1ce"].grid, (volumes["T1ce"].array > 0).astype(np.uint8))
    truth = read(brats_files(cohorts("brats"))["T1ce"])[0] > 0
    assert back.shape == truth.shape
    assert dice(back, truth) > 0.93
    assert preparation.remarks[0].text.startswith("scans prepared by this application: BraTS's space")
    assert preparation.remarks[0].text.endswith("brain extracted by deepbet")
    figures = preparation.figures
    assert (figures.reference, set(figures.modalities)) == ("T1", {"FLAIR", "T1ce", "T1", "T2"})


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
    assert missing_slices({"T2": [header(**words)] * 4}, volumes) == ([f"T2: {missing}"] if missing else [])


def test_end_slices_that_another_series_has_are_reported():
    volumes = {name: Volume(np.zeros((2, 2, count), np.float32), np.eye(4)) for name, count in (("T1", 9), ("T2", 7))}
    slices = {name: [header()] * volume.array.shape[2] for name, volume in volumes.items()}
    assert missing_slices(slices, volumes) == ["T2: lacks 2 end slices that T1 has on the same grid"]
