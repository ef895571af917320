import numpy as np
import pytest
from pydicom.datadict import DicomDictionary, dictionary_VR, keyword_for_tag

from deploy.outputs import Case, make_all
from deploy.source_header import burned_in_annotation
from scripts.prepare.volumes import Volume
from tests.deploy.dicom.dicom_study import Study, header, write_modality

MAY_TRAVEL = {  # from the source into results: identity of patient and study, and references
    *("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("StudyInstanceUID", "StudyID", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName"),
}
TEXT_KINDS = ("LO", "LT", "PN", "SH", "ST", "UC", "UT")
ABOUT_PATIENT = {"PatientAge": "061Y", "PatientSize": "1.61", "PatientWeight": "61.5", "PatientBirthTime": "0101"}
ABOUT_PATIENT |= {"PatientSexNeutered": "ALTERED", "PregnancyStatus": 4, "LastMenstrualDate": "20251201"}
ABOUT_PATIENT |= {"SmokingStatus": "YES"}


@pytest.mark.filterwarnings("ignore")
def test_nothing_but_these_attributes_travels(tumours, tmp_path):
    """The slices have all of DICOM's text attributes, at the root and in every sequence.

    SECURITY.md: "results copy only identity from the source"
    """
    slices = write_modality(tmp_path / "in", np.ones((6, 5, 12)), np.eye(4), Study(), 3, "T1ce")
    kinds = {keyword_for_tag(tag): dictionary_VR(tag) for tag in DicomDictionary if keyword_for_tag(tag)}
    inner = header(**{keyword: "SECRET" for keyword, kind in kinds.items() if kind in TEXT_KINDS})
    sequences = header(**{keyword: [inner] for keyword, kind in kinds.items() if kind == "SQ"}, **ABOUT_PATIENT)
    for image in slices:
        image.update(inner)
        image.update(sequences)
        image.add_new(0x00090010, "LO", "SECRET")
        image.add_new(0x00091001, "LO", "SECRET")
    segments = np.ones((6, 5, 12), np.uint8)
    volumes = {segment.label: 1.0 for segment in tumours.segments}
    source = slices[0]
    for result in make_all(Case(segments, Volume(segments, np.eye(4)), slices, volumes, tumours)).values():
        elements = [element for element in result.iterall() if element.VR != "SQ"]
        secret = {element.keyword for element in elements if "SECRET" in str(element.value)}
        assert secret == {keyword for keyword in MAY_TRAVEL if source[keyword].value == "SECRET"}
        assert not {element.keyword for element in elements}.intersection(ABOUT_PATIENT)
        assert [keyword for keyword in MAY_TRAVEL if str(result[keyword].value) != str(source[keyword].value)] == []


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["NO", "NO"], "NO"),
        ([None, "YES"], "YES"),
        (["NO", None], None),
        (["NO", ["NO", "YES"]], "YES"),
        ([None], None),
    ],
)
def test_burned_in_annotation_is_denied_only_if_every_source_denies_it(values, expected):
    assert burned_in_annotation([header(BurnedInAnnotation=value) for value in values]) == expected
