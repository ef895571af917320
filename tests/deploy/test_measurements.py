import highdicom as hd
import numpy as np
import pydicom
import pytest

from deploy.bundle import segments_of
from deploy.dicom.geometry import volume_of
from deploy.job import Case
from deploy.outputs import make_all
from tests.deploy.dicom.checks import dicom_errors
from tests.deploy.dicom.dicom_study import IDENTIFIER, NAME, Study, write_modality
from tests.deploy.dicom.enhanced_mr import write_enhanced

TUMOUR = segments_of("brats2021")
VOLUMES = dict(zip([segment.label for segment in TUMOUR], (0.0, 12.3456, 1234.5), strict=True))
REMARK = "voxels of 4.00 x 4.00 x 4.00 mm; the model was trained on 1 mm"


@pytest.mark.parametrize("write", [write_modality, write_enhanced])
def test_the_report_belongs_to_the_study_and_its_volumes_refer_to_the_segments(write, tumours, tmp_path):
    written = write(tmp_path / "in", np.ones((6, 5, 12)), np.diag([-2, -2, 3, 1.0]), Study(), 3, "T1ce")
    volume, slices = volume_of(written if isinstance(written, list) else [written], "series 3")
    made = make_all(Case(np.ones((6, 5, 12), np.uint8), volume, slices, VOLUMES, tumours, [REMARK]))
    segmentation, path = made["segmentation"], tmp_path / "report.dcm"
    made["measurements"].save_as(path)
    assert dicom_errors(path) == []
    report = hd.sr.srread(path)
    assert report.StudyInstanceUID == slices[0].StudyInstanceUID
    assert (report.PatientName, report.PatientID, report.SeriesNumber) == (NAME, IDENTIFIER, 1033)
    assert (report.PreliminaryFlag, report.VerificationFlag) == ("PRELIMINARY", "UNVERIFIED")
    evidence = {instance for _, _, instance, _ in report.get_evidence()}
    assert evidence == {segmentation.SOPInstanceUID, *(image.SOPInstanceUID for image in slices)}
    groups = report.content.get_volumetric_roi_measurement_groups()
    for number, (group, segment) in enumerate(zip(groups, TUMOUR, strict=True), 1):
        (measurement,) = group.get_measurements(name=pydicom.sr.codedict.codes.SCT.Volume)
        assert measurement.value == pytest.approx(VOLUMES[segment.label], abs=5e-4)
        assert (measurement.unit.value, measurement.unit.scheme_designator) == ("cm3", "UCUM")
        reference = group.referenced_segment
        assert reference.referenced_sop_instance_uid == segmentation.SOPInstanceUID
        assert reference.referenced_segment_numbers == [number]
        assert reference.source_series_for_segmentation.value == slices[0].SeriesInstanceUID
        assert group.tracking_uid == segmentation.SegmentSequence[number - 1].TrackingUID
        assert (group.finding_type.value, group.finding_category.value) == (segment.code.split()[0], "49755003")
        texts = {item.name.meaning: item.value for item in group[0].ContentSequence if item.ValueType == "TEXT"}
        assert (texts["Algorithm Name"], texts["Algorithm Version"]) == (tumours.name, tumours.version)
        assert tumours.checkpoint_sha256 in texts["Algorithm Parameters"]
    comments = [item.value for item in report.content[0].ContentSequence if item.name.meaning == "Comment"]
    assert comments == ["Research only, not for diagnosis", REMARK]
