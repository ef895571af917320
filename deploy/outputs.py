"""Make the DICOM results of a case: segmentation, structured report of volumes, and summary for radiologists.

This module calls highdicom directly: MONAI Deploy's writer keeps rounded positions, which readers misplace, omits the
series description, and names MONAI as the manufacturer. No text of report and summary comes from DICOM headers.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import highdicom as hd
import numpy as np
from highdicom.sr import RelationshipTypeValues, VolumetricROIMeasurementsAndQualitativeEvaluations
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from nibabel.orientations import apply_orientation, io_orientation
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from common.data.regions import CONVENTIONS
from common.errors import InputError
from common.training.pictures import SIDES, grey_levels
from deploy.bundle import LONG_STRING, Bundle, Segment
from deploy.source_header import sanitised_header, source_images
from scripts.pages.panels import AXES, panel
from scripts.prepare.volumes import Volume

MANUFACTURER = "BrainSegFounder bundles"
CAUTION = "Research only, not for diagnosis"
CATEGORY, ANATOMY = codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Brain
SCHEME = "99BSF"  # designator of private codes (PS3.3, 8.2)
OWN_CATEGORY = codes.SCT.Tissue  # of regions that may be healthy, as in 3D Slicer
PROCEDURE = Code("24590-2", "LN", "MR Brain")  # CID 100 lacks brain MRI, but is extensible
SIZE = (12.0, 7.5)  # inches; of the summary
DOTS, EDGE = 100, 270  # per inch; pixels of a plane's longest edge


@dataclass(frozen=True)
class Case:
    """The results of a segmentation, from which the DICOM objects are made."""

    segments: NDArray[Any]  # segment numbers [columns, rows, slices] on the grid of the reference
    reference: Volume  # scan that gives the grid
    slices: Sequence[Dataset]  # images of the reference, in the order of the last axis
    volumes: Mapping[str, float]  # of each segment in mL, by label
    bundle: Bundle  # model of the segmentation
    remarks: Sequence[str] = ()  # texts for the results
    burned_in: str | None = None  # value of BurnedInAnnotation; None omits it


def make_all(case: Case) -> dict[str, Dataset]:
    """Make all DICOM objects of a case; return them by the names of their files, such as segmentation.

    The application writes each to NAME.dcm, and its UIDs under NAME into result.json.
    """
    segmentation = make_segmentation(case)
    report, summary = make_measurements(case, segmentation), make_summary(case)
    return {"segmentation": segmentation, "measurements": report, "summary": summary}


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


def make_segmentation(case: Case) -> hd.seg.Segmentation:
    """Make the segmentation of a case, with a frame for each slice and segment, even if empty."""
    slices, bundle = case.slices, case.bundle
    order = sorted(range(len(slices)), key=lambda index: slices[index].get("ReferencedFrameNumber", index))
    result = hd.seg.Segmentation(
        source_images=source_images([slices[index] for index in order]),
        pixel_array=case.segments.transpose(2, 1, 0)[order],
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_describe(number, part, bundle) for number, part in enumerate(bundle.segments, 1)],
        **_new_series(case, 1, "Segmentation"),
        content_label="SEGMENTATION",
        content_description=CAUTION,
        omit_empty_frames=False,
    )
    result.BodyPartExamined = "BRAIN"
    if case.burned_in:
        result.BurnedInAnnotation = case.burned_in
    return result


def _new_series(case: Case, step: int, content: str) -> dict[str, Any]:
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


def _describe(number: int, segment: Segment, bundle: Bundle) -> hd.seg.SegmentDescription:
    category, concept = _codes_of(segment, bundle)
    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=segment.label,
        segmented_property_category=category,
        segmented_property_type=concept,
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


def _codes_of(segment: Segment, bundle: Bundle) -> tuple[Code, Code]:
    """Return category and concept of a segment: its code or, without one, its name as a private code."""
    value, scheme, meaning = segment.code.split(" ", 2) if segment.code else (segment.label, SCHEME, segment.label)
    return CATEGORY if bundle.convention in CONVENTIONS else OWN_CATEGORY, Code(value, scheme, meaning)


def make_measurements(case: Case, segmentation: Dataset) -> hd.sr.Comprehensive3DSR:
    """Report segment volumes as a structured report: TID 1500, "Measurement Report" (PS3.16).

    Each measurement group refers to a segment of the DICOM segmentation. Remarks become comments.
    """
    slices, bundle = case.slices, case.bundle
    observer = hd.sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(
            uid=generate_uid(entropy_srcs=[bundle.name, bundle.version, bundle.checkpoint_sha256]),
            name=bundle.name,
            manufacturer_name=MANUFACTURER,
            model_name=bundle.name,
            serial_number=bundle.checkpoint_sha256[:16],  # as in the segmentation
        ),
    )
    content = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=observer),
        procedure_reported=PROCEDURE,
        imaging_measurements=[_measure(number, case, segmentation) for number in range(1, len(bundle.segments) + 1)],
    )
    for text in (CAUTION, *case.remarks):
        comment = hd.sr.TextContentItem(codes.DCM.Comment, text, RelationshipTypeValues.CONTAINS)
        content[0].ContentSequence.append(comment)
    headers = {image.SOPInstanceUID: sanitised_header(image) for image in slices}  # each enhanced image once
    return hd.sr.Comprehensive3DSR(
        evidence=[*headers.values(), segmentation],  # highdicom copies patient, study and scanner from the first
        content=content[0],
        **_new_series(case, 3, "Volumes of segments"),
        is_complete=True,
    )


def _measure(number: int, case: Case, segmentation: Dataset) -> VolumetricROIMeasurementsAndQualitativeEvaluations:
    """Return the measurement group that holds a segment's volume in mL."""
    bundle, segment = case.bundle, case.bundle.segments[number - 1]
    description, volume = segmentation.SegmentSequence[number - 1], round(case.volumes[segment.label], 3)
    category, concept = _codes_of(segment, bundle)
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(description.TrackingUID, description.TrackingID),
        referenced_segment=hd.sr.ReferencedSegment(
            segmentation.SOPClassUID,
            segmentation.SOPInstanceUID,
            number,
            source_series=hd.sr.SourceSeriesForSegmentation(case.slices[0].SeriesInstanceUID),
        ),
        finding_category=category,
        finding_type=concept,
        finding_sites=[hd.sr.FindingSite(ANATOMY)],
        algorithm_id=hd.sr.AlgorithmIdentification(
            name=bundle.name,
            version=bundle.version,
            parameters=[f"checkpoint sha256 {bundle.checkpoint_sha256}"],
            family=codes.DCM.ArtificialIntelligence,
            manufacturer=MANUFACTURER,
        ),
        measurements=[hd.sr.Measurement(codes.SCT.Volume, volume, codes.UCUM.CubicCentimeter)],  # 1 mL
    )


def make_summary(case: Case) -> hd.sc.SCImage:
    """Make the summary of a case, a secondary capture in its study, which every viewer shows.

    BurnedInAnnotation refers to text in the scans, which may identify the patient (PS3.3, C.7.6.1), not to the figure.
    """
    header = sanitised_header(case.slices[0])
    canvas = FigureCanvasAgg(draw_summary(case))
    canvas.draw()
    capture = hd.sc.SCImage.from_ref_dataset(
        ref_dataset=header,
        pixel_array=np.asarray(canvas.buffer_rgba())[..., :3].copy(),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        **_new_series(case, 2, "Summary of segmentation"),
        patient_orientation=("L", "P"),
    )
    if "IssuerOfPatientID" in header:  # highdicom does not copy it
        capture.IssuerOfPatientID = header.IssuerOfPatientID
    capture.BodyPartExamined = "BRAIN"
    capture.PatientOrientation = []  # empty: the picture shows three planes
    if case.burned_in:
        capture.BurnedInAnnotation = case.burned_in
    return capture


def draw_summary(case: Case) -> Figure:
    """Draw the planes with the largest segment areas (plain above, outlines below) and the text on the right.

    Without any segment, the middle planes are drawn.
    """
    volume, bundle = case.reference, case.bundle
    figure = Figure(figsize=SIZE, dpi=DOTS, facecolor="black")
    layout = figure.add_gridspec(2, 4, width_ratios=[1, 1, 1, 1.3], left=0.01, right=0.99, wspace=0.03, hspace=0.03)
    orientation = io_orientation(volume.affine)
    image, label = (apply_orientation(array, orientation) for array in (volume.array, case.segments))
    edges, levels = volume.spacing[np.argsort(orientation[:, 0])], grey_levels(image)
    outlines: dict[str, NDArray[np.bool_]] = {}
    for number, segment in enumerate(bundle.segments, 1):
        outlines[segment.colour] = (label == number) | outlines.get(segment.colour, False)
    for column, plane in enumerate(reversed(SIDES)):
        counts = (label > 0).sum(axis=AXES[plane])
        at = int(np.argmax(counts)) if counts.any() else len(counts) // 2
        for row, masks in enumerate(({}, outlines)):
            axes = figure.add_subplot(layout[row, column])
            axes.imshow(panel(levels, plane, at, edges, masks, EDGE), interpolation="nearest")
            axes.set_axis_off()
    texts = [
        (bundle.name, "white"),
        (f"version {bundle.version}", "white"),
        (f"trained on {bundle.trained_on}", "lightgrey"),
        ("", "white"),
        *((f"{part.label}: {case.volumes[part.label]:.2f} mL", part.colour) for part in bundle.segments),
        ("", "white"),
        *((remark, "orange") for remark in case.remarks),
        ("", "white"),
        (f"{CAUTION}.", "white"),
    ]
    _write(figure.add_subplot(layout[:, 3]), texts)
    return figure


def _write(axes: Axes, texts: Sequence[tuple[str, str]]) -> None:
    """Write coloured lines below each other, smaller if there are too many."""
    axes.set_axis_off()
    paragraphs = [(textwrap.wrap(text, 46) or [""], colour) for text, colour in texts]
    height, line = 0.97, min(0.035, 0.97 / sum(len(lines) for lines, _ in paragraphs))
    size = 9.5 * line / 0.035
    for lines, colour in paragraphs:
        text = "\n".join(lines)
        axes.text(0.03, height, text, color=colour, fontsize=size, va="top", transform=axes.transAxes, parse_math=False)
        height -= line * len(lines)
