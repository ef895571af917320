"""The label map as a DICOM segmentation whose segments carry SNOMED CT codes and say which model made them.

highdicom writes it. MONAI Deploy's `DICOMSegmentationWriterOperator` calls the same library, but takes the slices in
the order in which their files were listed, gives the series no description, and names its own consortium as the
manufacturer.
"""

from collections.abc import Sequence

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from common.preflight import InputError
from deploy.bundle import Bundle, Segment
from deploy.heading import heading

__all__ = ["CAUTION", "MANUFACTURER", "label_segments", "series_number", "write_segmentation"]

MANUFACTURER = "BrainSegFounder bundles"
CAUTION = "Research only, not for diagnosis"
LONG_STRING = 64  # characters that DICOM has for a name (LO)


def label_segments(label: NDArray[np.uint8], segments: Sequence[Segment]) -> NDArray[np.uint8]:
    """Number the segments from 1 on without a gap, 0 elsewhere.

    Raises:
        InputError: the label map has a value that no segment takes, or two values that one segment takes, which no
            label convention has (3 and 4 are both enhancing tumour, in different years of BraTS).
    """
    found = set(np.unique(label).tolist()) - {0}
    known = {value for segment in segments for value in segment.values}
    if unknown := found - known:
        raise InputError(f"label {min(unknown)} in the bundle's map; expected {', '.join(map(str, sorted(known)))}")
    result = np.zeros_like(label)
    for number, segment in enumerate(segments, 1):
        if len(found.intersection(segment.values)) > 1:
            raise InputError(f"labels {', '.join(map(str, segment.values))} in one map; expected one of them")
        result[np.isin(label, segment.values)] = number
    return result


def series_number(source: Dataset, step: int) -> int:
    """A number for a new series: behind those of scanners, which stay below 1000 as a rule."""
    value = source.get("SeriesNumber")
    number = 1000 + step + 10 * (int(value) if value not in (None, "") else 0)
    return number if 0 < number < 2**31 else 1000 + step  # DICOM's whole numbers (IS) end there


def write_segmentation(segments: NDArray[np.uint8], slices: Sequence[Dataset], bundle: Bundle) -> hd.seg.Segmentation:
    """A DICOM segmentation of a series.

    Args:
        segments: [columns, rows, slices], numbered as by `label_segments`.
        slices: of the reference series, in the order of the last axis; patient and study come from them.
        bundle: that made it.

    Returns:
        A data set to save. Where there is no segment at all it has all frames, empty.
    """
    descriptions = [_describe(number, segment, bundle) for number, segment in enumerate(bundle.task.segments, 1)]
    result = hd.seg.Segmentation(
        source_images=[heading(slices[0]), *slices[1:]],
        pixel_array=np.ascontiguousarray(segments.transpose(2, 1, 0)),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=descriptions,
        series_instance_uid=hd.UID(),
        series_number=series_number(slices[0], 1),
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=bundle.name[:LONG_STRING],
        software_versions=bundle.version,
        device_serial_number=bundle.digest[:16],
        content_label="SEGMENTATION",
        content_description=CAUTION,
        series_description=f"Segmentation. {CAUTION}",
        omit_empty_frames=bool(segments.any()),
    )
    result.BodyPartExamined = "BRAIN"
    return result


def _describe(number: int, segment: Segment, bundle: Bundle) -> hd.seg.SegmentDescription:
    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=segment.label,
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=Code(segment.code, "SCT", segment.meaning),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=bundle.name[:LONG_STRING],
            family=codes.DCM.ArtificialIntelligence,
            version=bundle.version,
            source=MANUFACTURER,
            parameters={"name": bundle.name, "checkpoint sha256": bundle.digest},
        ),
        anatomic_regions=[codes.SCT.Brain],
        tracking_id=segment.label,
        tracking_uid=hd.UID(),
    )
