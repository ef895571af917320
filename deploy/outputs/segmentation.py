"""Convert a label map to a DICOM segmentation with SNOMED CT codes and the model's name.

This module calls highdicom directly: MONAI Deploy's writer keeps rounded positions, which readers misplace, omits the
series description, and names MONAI as the manufacturer.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from common.data.cards import Segment
from common.errors import InputError
from deploy.bundle import Bundle
from deploy.job import MANUFACTURER
from deploy.outputs import Case
from deploy.replaced import refer_to_replaced
from deploy.source_header import source_images

STEP = 1
CAUTION = "Research only, not for diagnosis"
CATEGORY, ANATOMY = codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Brain
LONG_STRING = 64  # maximum number of characters of a DICOM name (LO)


def label_segments(label: NDArray[np.uint8], segments: Sequence[Segment]) -> NDArray[np.uint8]:
    """Convert label values to segment numbers: 1, 2, ... in the order of the segments, 0 elsewhere.

    Raise an InputError for an unknown value, and for two values of one segment, which indicate mixed label conventions
    (3 and 4 both mean enhancing tumour, in different years of BraTS).
    """
    present = set(np.unique(label).tolist()) - {0}
    expected = {value for segment in segments for value in segment.values}
    if unknown := present - expected:
        raise InputError(
            f"label {min(unknown)} in the bundle's label map; expected {', '.join(map(str, sorted(expected)))}"
        )
    result = np.zeros_like(label)
    for number, segment in enumerate(segments, 1):
        if len(present.intersection(segment.values)) > 1:
            raise InputError(f"labels {', '.join(map(str, segment.values))} in one label map; expected one of these")
        result[np.isin(label, segment.values)] = number
    return result


def new_series(case: Case, step: int, content: str) -> dict[str, Any]:
    """Return the attributes of a new series with a single result, as arguments of highdicom's classes.

    The series number ends in `step` and is above most scanners' numbers; the description begins with `content`.
    """
    value = case.slices[0].get("SeriesNumber")
    number = 1000 + step + 10 * max(0, int(value) if value not in (None, "") else 0)
    return {
        "series_instance_uid": hd.UID(),
        "series_number": number if number < 2**31 else 1000 + step,  # the range of DICOM's integer strings (IS)
        "series_description": f"{content}. {CAUTION}",
        "sop_instance_uid": hd.UID(),
        "instance_number": 1,
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": case.bundle.name[:LONG_STRING],
        "software_versions": case.bundle.version,
        "device_serial_number": case.bundle.checkpoint_sha256[:16],
    }


def make(case: Case, made: Mapping[str, Dataset]) -> hd.seg.Segmentation:
    """Make the segmentation of a case, with a frame for each slice and segment, even if empty."""
    slices, bundle = case.slices, case.bundle
    order = sorted(range(len(slices)), key=lambda index: slices[index].get("ReferencedFrameNumber", index))
    descriptions = [_describe(number, segment, bundle) for number, segment in enumerate(bundle.card.segments, 1)]
    result = hd.seg.Segmentation(
        source_images=source_images([slices[index] for index in order]),
        pixel_array=case.segments.transpose(2, 1, 0)[order],
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=descriptions,
        **new_series(case, STEP, "Segmentation"),
        content_label="SEGMENTATION",
        content_description=CAUTION,
        omit_empty_frames=False,
    )
    result.BodyPartExamined = "BRAIN"
    if case.burned_in:
        result.BurnedInAnnotation = case.burned_in
    refer_to_replaced(result, case.replaced)
    return result


def concept_of(segment: Segment) -> Code:
    """Return the SNOMED CT concept of a segment."""
    return Code(segment.code, "SCT", segment.meaning)


def _describe(number: int, segment: Segment, bundle: Bundle) -> hd.seg.SegmentDescription:
    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=segment.label,
        segmented_property_category=CATEGORY,
        segmented_property_type=concept_of(segment),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=bundle.name[:LONG_STRING],
            family=codes.DCM.ArtificialIntelligence,
            version=bundle.version,
            source=MANUFACTURER,
            parameters={
                "name": bundle.name,
                "checkpoint sha256": bundle.checkpoint_sha256,
                "trained on": bundle.trained_on,
            },
        ),
        anatomic_regions=[ANATOMY],
        tracking_id=segment.label,
        tracking_uid=hd.UID(),
        display_color=hd.color.CIELabColor.from_string(segment.colour),
    )
