"""Earlier results of a study, which new results replace (`--replaces`).

The new report names the earlier report as its predecessor (measurements.py). DICOM defines no predecessor of a
segmentation, so the new segmentation refers to the earlier segmentation. A remark lists the replaced series.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import SegmentationStorage

from common.errors import InputError
from deploy.dicom.remarks import Remark
from deploy.dicom.study import check_inflated
from deploy.job import MANUFACTURER, RESULT_FILES

KEYWORDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber")
SCHEME = "99BSF"  # designator of private codes (PS3.3, 8.2)
PURPOSE = {"CodeValue": "replaced", "CodingSchemeDesignator": SCHEME, "CodeMeaning": "Replaced by this instance"}


def read_replaced(folder: Path, study: str) -> list[Dataset]:
    """Return references to the DICOM results in a folder; raise an InputError unless all are results of `study`."""
    references, culprit = [], ""
    try:
        for path in sorted(folder.glob("*.dcm")):
            name = path.name if path.name in RESULT_FILES else "a file"  # other names may identify the patient
            culprit = f"{name}: damaged or from a different study; "
            check_inflated(path)
            image = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=[*KEYWORDS, "Manufacturer"])
            if image.Manufacturer != MANUFACTURER or image.StudyInstanceUID != study:
                raise ValueError
            references.append(_dataset({keyword: image[keyword].value for keyword in KEYWORDS}))
    except Exception:  # pydicom raises many types, and their messages quote values
        references = []
    if not references:
        expected = "expected a folder with DICOM results of this application for the same study"
        raise InputError(f"--replaces: {culprit}{expected}")
    return references


def remark_on(replaced: Sequence[Dataset]) -> list[Remark]:
    """Return a remark on the replaced results, if any."""
    numbers = ", ".join(sorted({str(image.SeriesNumber) for image in replaced}))
    return [Remark("replaces", f"replaces earlier results of this study, series {numbers}")] if replaced else []


def refer_to_replaced(segmentation: Dataset, replaced: Sequence[Dataset]) -> None:
    """Add references to the earlier segmentations that `segmentation` replaces (PS3.3, General Reference Module)."""
    earlier = [image for image in replaced if image.SOPClassUID == SegmentationStorage]
    for image in earlier:
        reference = {"ReferencedSOPClassUID": image.SOPClassUID, "ReferencedSOPInstanceUID": image.SOPInstanceUID}
        series = {"SeriesInstanceUID": image.SeriesInstanceUID, "ReferencedInstanceSequence": [_dataset(reference)]}
        segmentation.ReferencedSeriesSequence.append(_dataset(series))  # after the source: viewers use the first
        purpose = {"PurposeOfReferenceCodeSequence": [_dataset(PURPOSE)]}
        segmentation.ReferencedImageSequence = [
            *segmentation.get("ReferencedImageSequence", []),
            _dataset(reference | purpose),
        ]


def _dataset(values: Mapping[str, object]) -> Dataset:
    result = Dataset()
    for keyword, value in values.items():
        setattr(result, keyword, value)
    return result
