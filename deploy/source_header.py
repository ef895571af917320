"""Make a source image's header acceptable to highdicom, which copies patient and study from it into the results."""

import copy

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.valuerep import DA, TM

__all__ = ["sanitised_header"]

REPRESENTATIONS = {"PatientBirthDate": DA, "StudyDate": DA, "StudyTime": TM}
SEXES = ("M", "F", "O", "")
REQUIRED = (  # attributes that DICOM requires in every image, possibly empty (type 2)
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)


def sanitised_header(image: Dataset) -> Dataset:
    """A copy of a slice from which highdicom can make results; the slice itself does not change.

    highdicom fails on some images that a PACS accepts: without attributes that may be empty (as anonymisers leave
    them), with invalid dates and sexes, and with character sets such as Japanese whose first value is empty. In the
    copy, missing and invalid attributes are empty, and text is in Unicode.
    """
    result = copy.deepcopy(image)
    for keyword in REQUIRED:
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
