"""What results say of patient and study: as the source has it, in a form that highdicom and every reader takes."""

import copy

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.valuerep import DA, TM

__all__ = ["heading"]

KINDS = {"PatientBirthDate": DA, "StudyDate": DA, "StudyTime": TM}
SEXES = ("M", "F", "O", "")
REQUIRED = (  # attributes that DICOM wants in each image, if empty
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


def heading(image: Dataset) -> Dataset:
    """A copy of a slice to make results from; the slice itself stays as it is.

    highdicom fails on sources that PACS hold all the same: without attributes that may be empty (as anonymisers leave
    them), with dates and sexes that are none, and with character sets such as Japanese, whose first value is empty.
    Here such attributes are empty, and text is in Unicode.
    """
    result = copy.deepcopy(image)
    for keyword in REQUIRED:
        setattr(result, keyword, _accepted(keyword, image.get(keyword)))
    result.SpecificCharacterSet = "ISO_IR 192"  # pydicom writes text in it that it has read in another
    return result


def _accepted(keyword: str, value: object) -> object:
    if keyword in ("PatientName", "ReferringPhysicianName") and isinstance(value, MultiValue):
        return value[0]
    if value is None or (keyword == "PatientSex" and value not in SEXES):
        return ""
    if kind := KINDS.get(keyword):
        try:
            kind(value)
        except (ValueError, TypeError):
            return ""
    return value
