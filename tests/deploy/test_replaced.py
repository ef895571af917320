import highdicom as hd
import numpy as np
import pytest

from common.data.regions import segments_of
from deploy.dicom.geometry import volume_of
from deploy.outputs import Case, make_all
from deploy.replaced import read_replaced, remark_on
from tests.deploy.dicom.checks import dicom_errors
from tests.deploy.dicom.dicom_study import Study, write_modality

PROCEDURE = "24590-2", "MR Brain"  # LOINC
VOLUMES = dict.fromkeys([segment.label for segment in segments_of("brats2021")], 1.0)


@pytest.fixture
def write(tumours, tmp_path):
    """Writes a segmentation and a report of one series into a folder."""
    study = Study()
    written = write_modality(tmp_path / "in", np.ones((6, 5, 12)), np.diag([-2, -2, 3, 1.0]), study, 3, "T1ce")
    volume, slices = volume_of(written, "series 3")

    def make(name, replaced=()):
        (tmp_path / name).mkdir()
        made = make_all(Case(np.ones((6, 5, 12), np.uint8), volume, slices, VOLUMES, tumours, (), replaced))
        for kind in ("segmentation", "measurements"):
            made[kind].save_as(tmp_path / name / f"{kind}.dcm")
        return study.study

    return make


def test_new_results_refer_to_those_that_they_replace(write, tmp_path):
    """By highdicom's readers, and dciodvfy. The first source series stays the first reference."""
    study = write("first")
    replaced = read_replaced(tmp_path / "first", study)
    assert remark_on(replaced) == [("replaces", "replaces earlier results of this study, series 1031, 1033")]
    assert remark_on([]) == []
    write("second", replaced)
    assert [dicom_errors(path) for path in (tmp_path / "second").iterdir()] == [[], []]

    first, second = (hd.seg.segread(tmp_path / name / "segmentation.dcm") for name in ("first", "second"))
    (reference,) = second.ReferencedImageSequence
    assert reference.ReferencedSOPInstanceUID == first.SOPInstanceUID
    series = [reference.SeriesInstanceUID for reference in second.ReferencedSeriesSequence]
    assert series == [first.ReferencedSeriesSequence[0].SeriesInstanceUID, first.SeriesInstanceUID]
    np.testing.assert_array_equal(second.get_volume().array, first.get_volume().array)

    first, second = (hd.sr.srread(tmp_path / name / "measurements.dcm") for name in ("first", "second"))
    assert "PredecessorDocumentsSequence" not in first
    (predecessor,) = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence
    assert predecessor.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == first.SOPInstanceUID
    (procedure,) = [item for item in second.ContentSequence if item.ConceptNameCodeSequence[0].CodeValue == "121058"]
    assert (procedure.ConceptCodeSequence[0].CodeValue, procedure.ConceptCodeSequence[0].CodeMeaning) == PROCEDURE
