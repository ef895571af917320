import pytest

from deploy.series_evidence import read_evidence, same_kind
from tests.deploy.dicom_study import header

MPRAGE = {"EchoTime": 3, "RepetitionTime": 2300, "InversionTime": 900, "ScanningSequence": ["GR", "IR"]}
MPRAGE |= {"MRAcquisitionType": "3D", "SeriesDescription": "T1"}


@pytest.mark.parametrize(
    ("change", "alike"),
    [
        ({}, True),
        ({"ScanningSequence": ["IR", "GR"]}, True),
        ({"EchoTime": 6}, True),
        ({"EchoTime": 6.1}, False),
        ({"EchoTime": None}, False),
        ({"RepetitionTime": 1610}, True),
        ({"RepetitionTime": 1600}, False),
        ({"RepetitionTime": None}, False),
        ({"InversionTime": 640}, True),
        ({"InversionTime": 620}, False),
        ({"InversionTime": None}, False),
        ({"ScanningSequence": "SE"}, False),
        ({"MRAcquisitionType": "2D"}, False),
        ({"SeriesDescription": "T1 FS"}, False),
        ({"ScanOptions": "FS"}, False),
    ],
    ids=str,
)
def test_scans_are_of_one_kind_if_times_sequence_and_fat_suppression_are_alike(change, alike):
    one, other = header(**MPRAGE), header(**(MPRAGE | change))
    assert same_kind(one, other) is same_kind(other, one) is alike


def test_scans_without_inversion_are_of_one_kind():
    assert same_kind(header(EchoTime=9, RepetitionTime=500), header(EchoTime=9, RepetitionTime=500))


@pytest.mark.parametrize(
    ("description", "values", "kind"),
    [
        ("T1", {"EchoTime": 44.9}, "T1"),  # echo times rule out what words say
        ("T1", {"EchoTime": 45}, None),
        ("T2", {"EchoTime": 44.9}, None),
        ("T2", {"EchoTime": 45}, "T2"),
        ("FLAIR", {"EchoTime": 44.9}, None),
        ("FLAIR", {"InversionTime": 1200}, "FLAIR"),  # so do inversion times
        ("FLAIR", {"InversionTime": 1199}, None),
        ("T2", {"InversionTime": 1499}, "T2"),
        ("T2", {"InversionTime": 1500}, None),
        ("T1", {"InversionTime": 2000}, "T1"),
        *(("T1", {"BodyPartExamined": body}, "T1") for body in ("", "HEAD", "HEADNECK", "UNKNOWN")),
        *(("T1", {"BodyPartExamined": body}, None) for body in ("CSPINE", "NECK")),
        *(
            ("T1", {"ImageType": ["DERIVED", "PRIMARY", value]}, None)
            for value in ("SUBTRACTED", "SUBTRACTION_M", "MAX_IP", "MIN_IP", "PROJECTION IMAGE")
        ),
    ],
)
def test_times_body_part_and_image_type_rule_out_what_words_say(description, values, kind):
    assert read_evidence(header(SeriesDescription=description, **values)).kind == kind


@pytest.mark.parametrize(
    ("description", "protocol", "expected"),
    [
        ("T1", "T1 quux", "unclear"),
        ("T1 +C", "T1 quux", "with"),
        ("T1 quux", "T1 +C", "unclear"),
        ("T1 pre", "T1 +C", "unclear"),
        ("quux", "T1", "unclear"),
        ("", "T1 nativ", "without"),
        ("T1", "T1 +C", "unclear"),
        ("T1", "T2 +C", None),
    ],
)
def test_description_and_protocol_together(description, protocol, expected):
    assert read_evidence(header(SeriesDescription=description, ProtocolName=protocol)).contrast == expected
