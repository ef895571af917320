"""Report segment volumes as a DICOM structured report: TID 1500, "Measurement Report" (PS3.16).

Programs can read the volumes from the report. Each measurement group refers to a segment of the DICOM segmentation. No
text comes from DICOM headers.
"""

import highdicom as hd
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from deploy.bundle import Bundle, Segment
from deploy.job import MANUFACTURER, Case
from deploy.outputs.segmentation import ANATOMY, CAUTION, category_of, concept_of, new_series
from deploy.source_header import sanitised_header

STEP = 3
CONTAINS = hd.sr.RelationshipTypeValues.CONTAINS
PROCEDURE = Code("24590-2", "LN", "MR Brain")  # CID 100 lacks brain MRI, but is extensible


def make(case: Case, segmentation: Dataset) -> hd.sr.Comprehensive3DSR:
    """Make the report of a case, which refers to its segmentation; remarks become comments."""
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
    measurements = [
        _measure(number, segment, case.volumes[segment.label], segmentation, slices[0], bundle)
        for number, segment in enumerate(bundle.segments, 1)
    ]
    content = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=observer),
        procedure_reported=PROCEDURE,
        imaging_measurements=measurements,
    )
    for text in (CAUTION, *case.remarks):
        content[0].ContentSequence.append(hd.sr.TextContentItem(codes.DCM.Comment, text, CONTAINS))
    headers = {image.SOPInstanceUID: sanitised_header(image) for image in slices}  # each enhanced image once
    return hd.sr.Comprehensive3DSR(
        evidence=[*headers.values(), segmentation],  # highdicom copies patient, study and scanner from the first
        content=content[0],
        **new_series(case, STEP, "Volumes of segments"),
        is_complete=True,
    )


def _measure(
    number: int, segment: Segment, volume: float, segmentation: Dataset, source: Dataset, bundle: Bundle
) -> hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations:
    """Return the measurement group that holds a segment's volume in mL."""
    description = segmentation.SegmentSequence[number - 1]
    return hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(description.TrackingUID, description.TrackingID),
        referenced_segment=hd.sr.ReferencedSegment(
            segmentation.SOPClassUID,
            segmentation.SOPInstanceUID,
            number,
            source_series=hd.sr.SourceSeriesForSegmentation(source.SeriesInstanceUID),
        ),
        finding_category=category_of(bundle),
        finding_type=concept_of(segment),
        finding_sites=[hd.sr.FindingSite(ANATOMY)],
        algorithm_id=hd.sr.AlgorithmIdentification(
            name=bundle.name,
            version=bundle.version,
            parameters=[f"checkpoint sha256 {bundle.checkpoint_sha256}"],
            family=codes.DCM.ArtificialIntelligence,
            manufacturer=MANUFACTURER,
        ),
        measurements=[hd.sr.Measurement(codes.SCT.Volume, round(volume, 3), codes.UCUM.CubicCentimeter)],  # 1 mL
    )
