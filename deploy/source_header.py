"""Attributes that results inherit from source images, by which a PACS identifies patient and study.

highdicom copies all patient and study attributes, institution and scanner. It therefore receives headers that contain
only the attributes listed below.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.valuerep import DA, TM, format_number_as_ds

from deploy.dicom.geometry import grid_of
from scripts.prepare.volumes import FLIP

IDENTITY = (  # required by DICOM (type 2 may be empty), plus the issuer, which makes an ID unique
    *("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex", "ReferringPhysicianName"),
    *("StudyInstanceUID", "StudyID", "StudyDate", "StudyTime", "AccessionNumber"),
)
IMAGE = (  # references and grid
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Modality", "FrameOfReferenceUID", "Rows", "Columns"),
    *("PixelSpacing", "SliceThickness", "ImageOrientationPatient", "ImagePositionPatient"),
    *("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"),
)
MEASURES = ("PixelSpacing", "SliceThickness")
OPTIONAL = ("IssuerOfPatientID", *IMAGE)
REPRESENTATIONS: dict[str, Callable[[Any], object]] = {
    **{"PatientBirthDate": DA, "StudyDate": DA, "StudyTime": TM},
    **{"SliceThickness": lambda value: format_number_as_ds(float(value))},
}
SEXES = ("M", "F", "O", "")


def sanitised_header(image: Dataset) -> Dataset:
    """Return the header of a source image, reduced to the attributes in `IDENTITY` and `IMAGE`.

    Missing required attributes and invalid attributes become empty, and text becomes Unicode. Otherwise highdicom fails
    on some images that a PACS accepts.
    """
    result = Dataset()
    for keyword in (*IDENTITY, *IMAGE):
        if keyword in image or keyword not in OPTIONAL:
            try:
                setattr(result, keyword, _sanitised(keyword, image.get(keyword)))
            except (ValueError, TypeError):
                setattr(result, keyword, "")
    result.SpecificCharacterSet = "ISO_IR 192"  # pydicom re-encodes the text that it has decoded
    return result


def _sanitised(keyword: str, value: object) -> object:
    if keyword in ("PatientName", "ReferringPhysicianName") and isinstance(value, MultiValue):
        return value[0]
    if value is None or (keyword == "PatientSex" and value not in SEXES):
        return ""
    if representation := REPRESENTATIONS.get(keyword):
        representation(value)
    return value


def source_images(slices: Sequence[Dataset]) -> list[Dataset]:
    """Return source image headers as highdicom needs them for a segmentation of these slices.

    Frames of an enhanced image give a single header. Orientation and positions come from the volume's grid, since
    readers of segmentations tolerate less rounding than scanners write.
    """
    headers = [sanitised_header(image) for image in slices]
    grid, order = grid_of(slices, "source images")
    affine = FLIP @ grid.affine
    for number, index in enumerate(order):
        headers[index].ImagePositionPatient = _numbers(affine[:3, 3] + number * affine[:3, 2])
        headers[index].ImageOrientationPatient = _numbers((affine[:3, :2] / grid.spacing[:2]).T.ravel())
    if not headers[0].get("SliceThickness"):
        for header in headers:
            header.SliceThickness = format_number_as_ds(float(grid.spacing[2]))
    if "ReferencedFrameNumber" not in slices[0]:
        return headers
    image = headers[0]
    image.NumberOfFrames = len(headers)
    image.SharedFunctionalGroupsSequence = [
        _groups(image, PixelMeasuresSequence=MEASURES, PlaneOrientationSequence=["ImageOrientationPatient"])
    ]
    image.PerFrameFunctionalGroupsSequence = [
        _groups(header, PlanePositionSequence=["ImagePositionPatient"]) for header in headers
    ]
    for keyword in (*MEASURES, "ImageOrientationPatient", "ImagePositionPatient"):
        delattr(image, keyword)
    return [image]


def _numbers(values: NDArray[np.float64]) -> list[str]:
    """Return numbers as DICOM's decimal strings."""
    return [format_number_as_ds(float(value)) for value in values]


def _groups(header: Dataset, **keywords: Sequence[str]) -> Dataset:
    """Make functional groups from a header's attributes; `keywords` maps each group to its attributes."""
    result = Dataset()
    for name, members in keywords.items():
        group = Dataset()
        group.update({header[keyword].tag: header[keyword] for keyword in members})
        setattr(result, name, [group])
    return result


def burned_in_annotation(images: Iterable[Dataset]) -> str | None:
    """Return BurnedInAnnotation for a result: "YES" if any image has YES, "NO" if all have NO, else None.

    The rule follows PS3.3, C.7.6.1.
    """
    values = {str(image.get("BurnedInAnnotation")) for image in images}
    return "YES" if any("YES" in value for value in values) else "NO" if values == {"NO"} else None
