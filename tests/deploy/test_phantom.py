"""A DICOM study of a computed head: its series are chosen without doubt, and equal the NIfTI files."""

import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813

from deploy.dicom.series.choice import choose_series
from deploy.dicom.study import read_study
from deploy.phantom import phantom
from scripts.phantoms.cohort import make

NAME = "BraTS2021_00001"
NUMBERS = {"T1": 2, "FLAIR": 3, "T2": 4, "T1ce": 5}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """A cohort of two subjects, and a study of the second."""
    folder = tmp_path_factory.mktemp("phantoms") / "brats"
    make("brats", 2, str(folder), spacing=4, workers=1)
    phantom(str(folder / NAME), str(folder / "dicom"))
    return folder


def test_each_series_is_chosen_on_two_kinds_of_evidence(cohort):
    choice = choose_series(read_study(cohort / "dicom"), list(NUMBERS), {})
    assert {modality: series.number for modality, series in choice.series.items()} == NUMBERS
    assert choice.remarks == []
    for words in ("its name states contrast agent", "its header names an agent", "scanned after the injection"):
        assert words in choice.reasons["T1ce"]


@pytest.mark.parametrize("modality", NUMBERS)
def test_the_series_show_the_scans(cohort, modality, assert_valid):
    files = sorted((cohort / "dicom" / str(NUMBERS[modality])).iterdir())
    series = sitk.ReadImage(files)
    scan = sitk.ReadImage(cohort / NAME / f"{NAME}_{modality.lower()}.nii.gz")
    assert (sitk.GetArrayFromImage(series) == sitk.GetArrayFromImage(scan)).all()
    for place in (series.GetOrigin, series.GetSpacing, series.GetDirection):
        assert place() == pytest.approx(getattr(scan, place.__name__)(), abs=1e-3)
    assert_valid(files[0])
    assert pydicom.dcmread(files[0]).QualityControlImage == "YES", "a phantom (PS3.3, C.7.6.1)"
