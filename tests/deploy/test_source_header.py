import pytest

pytest.importorskip("pydicom", reason="needs the environment of make deploy")

import numpy as np
from matplotlib.figure import Figure
from pydicom.datadict import DicomDictionary, dictionary_VR, keyword_for_tag
from pydicom.dataset import Dataset

from deploy.bundle import open_bundle
from deploy.measurements import make_report
from deploy.segmentation import make_segmentation
from deploy.source_header import burned_in_annotation, sanitised_header
from deploy.summary import Summary, make_capture
from tests.deploy.dicom_study import Study, write_modality
from tests.support import ROOT

MAY_TRAVEL = {  # from the source into results: identity of patient and study, and references
    *("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("StudyInstanceUID", "StudyID", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName"),
}
TEXT_KINDS = ("LO", "LT", "PN", "SH", "ST", "UC", "UT")
ABOUT_PATIENT = {
    "PatientAge": "061Y",
    "PatientSize": "1.61",
    "PatientWeight": "61.5",
    "PatientBirthTime": "0101",
    "PatientSexNeutered": "ALTERED",
    "PregnancyStatus": 4,
    "LastMenstrualDate": "20251201",
    "SmokingStatus": "YES",
}


def test_missing_attributes_become_empty():
    result = sanitised_header(Dataset())
    assert [result[keyword].value for keyword in ("PatientID", "PatientBirthDate", "StudyTime")] == ["", "", ""]


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_invalid_dates_times_and_sexes_become_empty_and_the_source_is_not_changed():
    source = Dataset()
    source.PatientSex, source.StudyDate, source.StudyTime = "X", "unknown", "noon"
    result = sanitised_header(source)
    assert (result.PatientSex, result.StudyDate, result.StudyTime) == ("", "", "")
    assert (source.PatientSex, source.StudyDate, source.StudyTime) == ("X", "unknown", "noon")


def test_valid_attributes_are_kept_and_text_becomes_unicode():
    source = Dataset()
    source.SpecificCharacterSet = "ISO_IR 100"
    source.PatientName, source.PatientSex, source.StudyDate = "Müller^Jörg", "F", "20260102"
    result = sanitised_header(source)
    assert (result.PatientName, result.PatientSex, result.StudyDate) == ("Müller^Jörg", "F", "20260102")
    assert result.SpecificCharacterSet == "ISO_IR 192"


def test_the_first_of_several_names_is_kept():
    source = Dataset()
    source.PatientName = ["A^B", "C^D"]
    assert sanitised_header(source).PatientName == "A^B"


@pytest.fixture
def crowded_study(tmp_path):
    """Slices with every attribute of text that DICOM knows, at the root and in every sequence, and `ABOUT_PATIENT`."""
    slices = write_modality(tmp_path / "in", np.ones((6, 5, 12)), np.eye(4), Study(), 3, "T1ce")
    kinds = {keyword_for_tag(tag): dictionary_VR(tag) for tag in DicomDictionary if keyword_for_tag(tag)}
    inner = Dataset()
    for keyword in (keyword for keyword, kind in kinds.items() if kind in TEXT_KINDS):
        setattr(inner, keyword, "SECRET")
    for image in slices:
        image.update(inner)
        for keyword in (keyword for keyword, kind in kinds.items() if kind == "SQ"):
            setattr(image, keyword, [inner])
        for keyword, value in ABOUT_PATIENT.items():
            setattr(image, keyword, value)
        image.add_new(0x00090010, "LO", "SECRET")
        image.add_new(0x00091001, "LO", "SECRET")
    return slices


def results_of(slices, models):
    """The three DICOM results."""
    bundle = open_bundle(ROOT / "bundles/brats_finetune", models("brats"))
    segmentation = make_segmentation(np.ones((6, 5, 12), np.uint8), slices, bundle)
    volumes = {segment.label: 1.0 for segment in bundle.task.segments}
    return {
        "segmentation": segmentation,
        "measurements": make_report(volumes, segmentation, slices, bundle),
        "summary": make_capture(Figure(), slices[0], Summary("model", "1", {}, [])),
    }


@pytest.mark.filterwarnings("ignore")
def test_nothing_but_these_attributes_travels(crowded_study, models):
    source = crowded_study[0]
    for name, result in results_of(crowded_study, models).items():
        elements = [element for element in result.iterall() if element.VR != "SQ"]
        secret = {element.keyword for element in elements if "SECRET" in str(element.value)}
        assert secret == {keyword for keyword in MAY_TRAVEL if source[keyword].value == "SECRET"}, name
        assert not {element.keyword for element in elements}.intersection(ABOUT_PATIENT), name
        assert [keyword for keyword in MAY_TRAVEL if str(result[keyword].value) != str(source[keyword].value)] == [], (
            name
        )


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["NO", "NO"], "NO"),
        (["NO", "YES"], "YES"),
        ([None, "YES"], "YES"),
        (["NO", None], None),
        ([None, None], None),
        (["NO", ""], None),
        (["no", "NO"], None),
    ],
)
def test_burned_in_annotation_is_denied_only_if_every_source_denies_it(values, expected):
    images = [Dataset() for _ in values]
    for image, value in zip(images, values, strict=True):
        if value is not None:
            image.BurnedInAnnotation = value
    assert burned_in_annotation(images) == expected
