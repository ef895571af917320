import pytest

pytest.importorskip("pydicom", reason="needs the environment of make deploy")

from pydicom.dataset import Dataset

from deploy.series_evidence import read_evidence, same_kind

MPRAGE = {"EchoTime": 3, "RepetitionTime": 2300, "InversionTime": 900, "ScanningSequence": ["GR", "IR"]}
MPRAGE |= {"MRAcquisitionType": "3D", "SeriesDescription": "T1"}


def header(**values):
    result = Dataset()
    for keyword, value in values.items():
        setattr(result, keyword, value)
    return result


@pytest.mark.parametrize(
    ("change", "alike"),
    [
        ({}, True),
        ({"ScanningSequence": ["IR", "GR"]}, True),
        ({"EchoTime": 6}, True),
        ({"EchoTime": 6.1}, False),
        ({"EchoTime": 15}, False),
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
    one = header(EchoTime=9, RepetitionTime=500)
    assert same_kind(one, one)


@pytest.mark.parametrize("echo", [9, 44.9])
def test_a_short_echo_time_contradicts_t2_and_flair(echo):
    assert read_evidence(header(SeriesDescription="T1", EchoTime=echo)).kind == "T1"
    for description in ("T2", "FLAIR"):
        assert read_evidence(header(SeriesDescription=description, EchoTime=echo)).kind is None


def test_a_long_echo_time_contradicts_t1():
    assert read_evidence(header(SeriesDescription="T1", EchoTime=45)).kind is None
    assert read_evidence(header(SeriesDescription="T2", EchoTime=45)).kind == "T2"


@pytest.mark.parametrize(
    ("description", "inversion", "kind"),
    [("FLAIR", 1200, "FLAIR"), ("FLAIR", 1199, None), ("T2", 1499, "T2"), ("T2", 1500, None), ("T1", 2000, "T1")],
)
def test_inversion_times_contradict_flair_and_t2(description, inversion, kind):
    assert read_evidence(header(SeriesDescription=description, InversionTime=inversion)).kind == kind


@pytest.mark.parametrize(
    ("body", "kind"),
    [("", "T1"), ("HEAD", "T1"), ("HEADNECK", "T1"), ("UNKNOWN", "T1"), ("CSPINE", None), ("NECK", None)],
)
def test_another_part_of_the_body_is_ruled_out(body, kind):
    assert read_evidence(header(SeriesDescription="T1", BodyPartExamined=body)).kind == kind


@pytest.mark.parametrize(
    ("value", "kind"),
    [("SUBTRACTED", None), ("SUBTRACTION_M", None), ("MAX_IP", None), ("MIN_IP", None), ("PROJECTION IMAGE", None)],
)
def test_subtractions_and_projections_are_ruled_out_by_their_image_type(value, kind):
    assert read_evidence(header(SeriesDescription="T1", ImageType=["DERIVED", "PRIMARY", value])).kind == kind


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
