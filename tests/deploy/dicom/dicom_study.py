"""DICOM studies with recognisable patient data, a localiser and shuffled slices; a check of messages."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.uid import MRImageStorage, generate_uid

from common.errors import InputError
from deploy import phantom
from deploy.dicom.series.evidence import MIN_SLICES, candidates_of
from deploy.dicom.study import Instance, Series
from deploy.phantom import DESCRIPTIONS, write_modality, write_series

NAME, IDENTIFIER = "SENTINEL^NAMEOF", "SENTINEL-ID-4711"  # may appear in DICOM's patient module only
VOXELS = np.ones((4, 4, 12), np.uint16)  # of a series whose voxels do not matter


@dataclass(frozen=True)
class Study(phantom.Study):
    """The attributes that the series of a study share; all patient data contains SENTINEL."""

    name: str = NAME
    identifier: str = IDENTIFIER
    accession: str = "SENTINEL-ACC"


def read(path):
    """Voxels [x, y, z] and affine (RAS+) of a NIfTI file."""
    image = nib.load(path)
    return np.asarray(image.dataobj), image.affine


def canonical(array, affine):
    """Return the array in RAS+ order, and its affine."""
    image = nib.as_closest_canonical(nib.Nifti1Image(np.asarray(array, dtype=np.float64), affine))
    return image.get_fdata(), image.affine


def to_slices(array, affine, axis=2, flip=False):
    """Return the volume with slices along a different axis, or in reverse order."""
    order = [*[other for other in range(3) if other != axis], axis]
    reordered = array.transpose(order)
    affine = affine @ np.eye(4)[:, [*order, 3]]
    if flip:
        affine = affine @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, reordered.shape[2] - 1], [0, 0, 0, 1.0]])
        reordered = reordered[:, :, ::-1]
    return reordered, affine


def write_localiser(folder, study, number=1):
    """Write three planes of three thick slices each, in one series."""
    text = {"SeriesDescription": "localizer", "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "EchoTime": "4"}
    text["SeriesInstanceUID"] = generate_uid()
    for axis in range(3):
        affine = np.diag([8.0, 8.0, 8.0, 1.0])[:, [*np.roll(range(3), axis), 3]]
        write_series(folder / f"plane{axis}", np.full((32, 32, 3), 100), affine, study, number, **text)


def brats_files(root):
    """Modality -> NIfTI file of the first subject of the embedded cohort in BraTS's layout."""
    name = "BraTS2021_00000"
    return {modality: root / name / f"{name}_{modality.lower()}.nii.gz" for modality in DESCRIPTIONS}


def write_brats(folder, root, study):
    """Write a localiser, number 1, and the four series of BraTS, numbers 2 to 5, with shuffled slices.

    The voxels are from the first subject of the cohort in the folder `root`; without `root`, there are a few.
    """
    write_localiser(folder / "1", study)
    for number, modality in enumerate(DESCRIPTIONS, 2):
        array, affine = read(brats_files(root)[modality]) if root else (VOXELS * number, np.eye(4))
        write_modality(folder / str(number), array, affine, study, number, modality, shuffle=True)


def change(file, **values):
    """Change attributes of a DICOM file, given by keyword."""
    image = pydicom.dcmread(file)
    for keyword, value in values.items():
        setattr(image, keyword, value)
    image.save_as(file)


def header(**values):
    """Return a data set with these attributes; a value of None omits the attribute."""
    result = pydicom.Dataset()
    for keyword, value in values.items():
        if value is not None:
            setattr(result, keyword, value)
    return result


def refusal(call: Callable[..., object], *arguments: object, **options: object) -> str:
    """Return the message of the InputError that a call raises; it must be one line and quote no DICOM header."""
    with pytest.raises(InputError) as error:
        call(*arguments, **options)
    message = str(error.value)
    assert not [text for text in ("\n", "SENTINEL", "mprage") if text in message]
    return message


def series_of(uid: str = "", **values: object) -> Series:
    """Return a series of the fewest MR images that make a volume, with these attributes."""
    images = []
    for position in range(MIN_SLICES):
        image = header(SOPClassUID=MRImageStorage, Modality="MR", **values)
        image.ImageOrientationPatient, image.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, position]
        images.append(Instance(Path(), image))
    return Series(uid, tuple(images))


def modality_of(**values: object) -> str | None:
    """Return a modality by a series' attributes alone: "FLAIR", "T1ce", "T1", "T2", "ask" (doubtful T1) or None."""
    (candidate,) = candidates_of([series_of(**values)], ())
    return candidate.modality
