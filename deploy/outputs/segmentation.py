"""Convert a label map to a DICOM segmentation with the codes of its regions and the model's name.

This module calls highdicom directly: MONAI Deploy's writer keeps rounded positions, which readers misplace, omits the
series description, and names MONAI as the manufacturer.
"""

from collections.abc import Sequence
from typing import Any

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from common.data.regions import CONVENTIONS
from common.errors import InputError
from deploy.bundle import LONG_STRING, Bundle, Segment
from deploy.job import MANUFACTURER, Case
from deploy.source_header import source_images

STEP = 1
CAUTION = "Research only, not for diagnosis"
CATEGORY, ANATOMY = codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Brain
SCHEME = "99BSF"  # designator of private codes (PS3.3, 8.2)
OWN_CATEGORY = codes.SCT.Tissue  # of regions that may be healthy, as in 3D Slicer


def label_segments(label: NDArray[Any], segments: Sequence[Segment]) -> NDArray[np.uint8]:
    """Convert label values to segment numbers: 1, 2, ... in the order of the segments, 0 elsewhere.

    Raise an InputError for an unknown value.
    """
    expected = [segment.value for segment in segments]
    if unknown := {*np.unique(label).tolist()} - {0, *expected}:
        raise InputError(f"label {min(unknown)} in the bundle's label map; expected {', '.join(map(str, expected))}")
    numbers = np.zeros(256, np.uint8)
    numbers[expected] = range(1, len(expected) + 1)
    return numbers[label]


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


def make(case: Case) -> hd.seg.Segmentation:
    """Make the segmentation of a case, with a frame for each slice and segment, even if empty."""
    slices, bundle = case.slices, case.bundle
    order = sorted(range(len(slices)), key=lambda index: slices[index].get("ReferencedFrameNumber", index))
    descriptions = [_describe(number, segment, bundle) for number, segment in enumerate(bundle.segments, 1)]
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
    return result


def concept_of(segment: Segment) -> Code:
    """Return the concept of a segment: its code or, without one, its name as a private code."""
    value, scheme, meaning = segment.code.split(" ", 2) if segment.code else (segment.label, SCHEME, segment.label)
    return Code(value, scheme, meaning)


def category_of(bundle: Bundle) -> Code:
    """Return the category of a model's segments."""
    return CATEGORY if bundle.convention in CONVENTIONS else OWN_CATEGORY


def _describe(number: int, segment: Segment, bundle: Bundle) -> hd.seg.SegmentDescription:
    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=segment.label,
        segmented_property_category=category_of(bundle),
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
