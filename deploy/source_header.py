"""What the results take over from the source images: the attributes of patient and study that a PACS files images by.

highdicom copies every attribute of a source image's patient and study modules into a result, and institution and
scanner into its contributing equipment. Here it gets headers with nothing but the attributes that are listed below.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.valuerep import DA, TM, format_number_as_ds

IDENTITY = (  # DICOM requires all but the issuer, which makes an ID unique; type 2 ones may be empty
    "PatientID",
    "IssuerOfPatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
)
IMAGE = (  # what the results refer to, and its grid
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "FrameOfReferenceUID",
    "Rows",
    "Columns",
    "PixelSpacing",
    "SliceThickness",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)
MEASURES = ("PixelSpacing", "SliceThickness")
OPTIONAL = ("IssuerOfPatientID", *IMAGE)
REPRESENTATIONS = {"PatientBirthDate": DA, "StudyDate": DA, "StudyTime": TM}
SEXES = ("M", "F", "O", "")


def sanitised_header(image: Dataset) -> Dataset:
    """The header of a source image that results are made from: `IDENTITY`, references and grid, and nothing else.

    highdicom fails on some images that a PACS accepts: without attributes that may be empty (as anonymisers leave
    them), with invalid dates and sexes, and with character sets such as Japanese whose first value is empty. In the
    header, missing and invalid attributes are empty, and text is in Unicode.
    """
    result = Dataset()
    for keyword in (*IDENTITY, *IMAGE):
        if keyword in image or keyword not in OPTIONAL:
            setattr(result, keyword, _sanitised(keyword, image.get(keyword)))
    result.SpecificCharacterSet = "ISO_IR 192"  # pydicom re-encodes the text that it has decoded
    return result


def _sanitised(keyword: str, value: object) -> object:
    if keyword in ("PatientName", "ReferringPhysicianName") and isinstance(value, MultiValue):
        return value[0]
    if value is None or (keyword == "PatientSex" and value not in SEXES):
        return ""
    if representation := REPRESENTATIONS.get(keyword):
        try:
            representation(value)
        except (ValueError, TypeError):
            return ""
    return value


def source_images(slices: Sequence[Dataset]) -> list[Dataset]:
    """Headers of the images that slices come from, as highdicom takes them to make a segmentation of these slices.

    Args:
        slices: of a volume, at least two: single-frame images, or all frames of one enhanced image in their order
            (see `deploy.multiframe.frames_of`).

    Returns:
        A header for each slice, or one for the enhanced image. All have the orientation of the first, because highdicom
        accepts no rounding errors. Slice thickness, if the source has none, is the distance
        between slices. SpacingBetweenSlices is left to highdicom, which computes it: some scanners store a wrong one.
    """
    headers = [sanitised_header(image) for image in slices]
    for header in headers:
        header.ImageOrientationPatient = headers[0].ImageOrientationPatient
    if not headers[0].get("SliceThickness"):
        positions = np.array([header.ImagePositionPatient for header in headers], float)
        distance = np.linalg.norm(positions[1:] - positions[0], axis=1).min()  # frames need not be in order
        for header in headers:
            header.SliceThickness = format_number_as_ds(float(distance))
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


def _groups(header: Dataset, **keywords: Sequence[str]) -> Dataset:
    """Functional groups with attributes of a header: name of the group -> keywords."""
    result = Dataset()
    for name, members in keywords.items():
        group = Dataset()
        group.update({header[keyword].tag: header[keyword] for keyword in members})
        setattr(result, name, [group])
    return result


def burned_in_annotation(images: Iterable[Dataset]) -> str | None:
    """BurnedInAnnotation of a result made from some images.

    Returns:
        "YES" if an image says so, "NO" if all do, else None: without the attribute, a result may or may not contain
        such text (PS3.3, C.7.6.1).
    """
    values = {image.get("BurnedInAnnotation") for image in images}
    return "YES" if "YES" in values else "NO" if values == {"NO"} else None
