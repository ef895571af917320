import pytest
from pydicom import Dataset

from common.dicom.series.evidence import kind_of
from common.dicom.series.names import MEANINGS, read_names, read_table
from common.errors import InputError
from tests.common.dicom.dicom_study import header


@pytest.mark.parametrize(
    ("description", "values", "kind"),
    [
        ("T1", {"EchoTime": 45}, None),  # echo times rule out what words say
        ("T2", {"EchoTime": 44.9}, None),
        ("FLAIR", {"EchoTime": 44.9}, None),
        ("FLAIR", {"InversionTime": 1199}, None),  # so do inversion times
        ("T2", {"InversionTime": 1500}, None),
        ("T2", {"RepetitionTime": 999}, None),  # and repetition times
        ("T2", {"RepetitionTime": 1000}, "T2"),
        ("T1", {"DerivationDescription": "post - pre, Subtracted"}, None),
        *(("T1", {"BodyPartExamined": body}, "T1") for body in ("", "HEADNECK", "UNKNOWN")),
        ("T1", {"BodyPartExamined": "CSPINE"}, None),
        *(
            ("T1", {"ImageType": ["DERIVED", "PRIMARY", value]}, None)
            for value in ("SUBTRACTION_M", "MAX_IP", "MIN_IP", "PROJECTION IMAGE", "SYNTHETIC", "FAT", "F", "R", "I")
        ),
    ],
)
def test_times_body_part_and_image_type_rule_out_what_words_say(description, values, kind):
    scan = header(SeriesDescription=description, **values)
    assert kind_of(scan, read_names(scan))[0] == kind


QUUX = {"SeriesDescription": "T2 FLAIR quux", "EchoTime": 120, "RepetitionTime": 9000, "InversionTime": 2500}


@pytest.mark.parametrize(
    ("change", "whole", "expected"),
    [
        ({}, True, ("FLAIR", "name and times")),
        ({}, False, (None, "part of its name is unknown")),
        ({"InversionTime": None}, True, (None, "part of its name is unknown")),
        ({"SeriesDescription": "ep2d_quux_DTI_64"}, True, (None, "diffusion by its name")),
        ({"SeriesDescription": "T1 quux fMRI"}, True, (None, "functional imaging by its name")),
    ],
    ids=str,
)
def test_an_unknown_word_is_passed_over_if_times_and_a_whole_head_agree(change, whole, expected):
    scan = header(**(QUUX | change))
    assert kind_of(scan, read_names(scan, (), whole), whole) == expected


def test_brackets_in_a_table_of_names_are_letters(tmp_path):
    file = tmp_path / "names.yaml"
    file.write_text("'*[T1]*': T1")
    for name, is_named in (("ax t2 tse", False), ("ax [t1] tse", True)):
        series = Dataset()
        series.SeriesDescription = name
        assert (read_names(series, read_table(file))[0] == MEANINGS["T1"]) == is_named


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("T1 KM: [T1ce]", "entry 1: expected a name and one of T1, T1ce, T2, FLAIR, none"),
        ("T1 KM: T1ce\nT1 KM: T1", r'not YAML \(the key "T1 KM" occurs twice\)'),
        ("[" * 5000, r"not YAML \(nested too deeply\)"),
    ],
    ids=["list", "twice", "deep"],
)
def test_a_table_of_names_that_is_invalid_is_refused(tmp_path, table, message):
    file = tmp_path / "names.yaml"
    file.write_text(table)
    with pytest.raises(InputError, match=f"^--series_names: {message}"):
        read_table(file)
