import pytest

pytest.importorskip("pydicom", reason="needs the environment of make deploy")

from pydicom.dataset import Dataset

from deploy.source_header import sanitised_header


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
