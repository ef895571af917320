import re

import pytest

pytest.importorskip("pydicom", reason="needs the environment of make deploy")

import numpy as np
from pydicom.dataset import Dataset

from deploy.series_choice import choose_series, is_volume, modality_of, parse_series_option
from deploy.study import read_study
from tests.deploy.checks import refusal
from tests.deploy.dicom_study import Study, change, write_modality, write_series, write_small_study

BRATS = ("FLAIR", "T1ce", "T1", "T2")
VOXELS = np.ones((4, 4, 12), np.uint16)


def make_header(description=None, protocol=None, agent=None, echo=None, repetition=None, inversion=None):
    result = Dataset()
    values = {
        "SeriesDescription": description,
        "ProtocolName": protocol,
        "ContrastBolusAgent": agent,
        "EchoTime": echo,
        "RepetitionTime": repetition,
        "InversionTime": inversion,
    }
    for keyword, value in values.items():
        if value is not None:
            setattr(result, keyword, value)
    return result


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        ("t2_flair_tra", "FLAIR"),
        ("AX T2 FLAIR FS", "FLAIR"),
        ("t2_tirm_tra_dark-fluid", "FLAIR"),
        ("FLAIR +C", "FLAIR"),
        ("t2_tse_tra", "T2"),
        ("AXT2", "T2"),
        ("3DT1", "T1"),
        ("T1w_MPR", "T1"),
        ("Ax T1 FLAIR", "T1"),
        ("SAG BRAVO", "T1"),
        ("mprage", "T1"),
        ("t1_mprage_sag +C", "T1ce"),
        ("T1 post", "T1ce"),
        ("T1_GD", "T1ce"),
        ("T1ce", "T1ce"),
        ("T1c", "T1ce"),
        ("t1 mprage KM", "T1ce"),
        ("T1 w/o contrast", "T1"),
        ("T1 pre contrast", "T1"),
        ("T1 non-contrast", "T1"),
        ("T1 nativ", "T1"),
        ("T2* GRE", None),
        ("ep2d_diff_T2", None),
        ("DWI ADC", None),
        ("t1 localizer", None),
        ("TOF 3D", None),
        ("T1 T2 mapping", None),
        ("", None),
        (None, None),
        ("something", None),
    ],
)
def test_words_of_the_description_decide_the_modality(description, expected):
    assert modality_of(make_header(description)) == expected


def test_a_contrast_agent_in_the_header_makes_a_t1_doubtful_unless_words_are_clear():
    assert modality_of(make_header("t1_mprage", agent="Gadobutrol")) == "ask"
    assert modality_of(make_header("t1_mprage", agent="NONE")) == "T1"
    assert modality_of(make_header("t1_mprage pre", agent="Gadobutrol")) == "T1"
    assert modality_of(make_header("t2_tse", agent="Gadobutrol")) == "T2"


def test_the_protocol_name_decides_if_the_description_does_not():
    assert modality_of(make_header("axial", protocol="t2_flair")) == "FLAIR"
    assert modality_of(make_header("t1", protocol="t2_flair")) == "T1"
    assert modality_of(make_header(None, protocol="ep2d_diff_T2", echo=90, repetition=5000)) is None


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ((110, 9000, 2500), "FLAIR"),
        ((90, 5000, None), "T2"),
        ((3, 2300, 900), "T1"),
        ((12, 500, None), "T1"),
        ((15, 3000, None), None),
        ((20, 30, None), None),
        ((None, 500, None), None),
    ],
)
def test_times_decide_if_words_do_not(times, expected):
    echo, repetition, inversion = times
    assert modality_of(make_header("axial", echo=echo, repetition=repetition, inversion=inversion)) == expected


@pytest.fixture
def study(tmp_path):
    """Folder and identity of a study: a localiser and the four series of BraTS, numbered 2 to 5."""
    return tmp_path / "study", write_small_study(tmp_path / "study")


def test_four_series_are_found_next_to_a_localiser(study):
    series = read_study(study[0])
    assert [modality_of(one.header) for one in series] == [None, *BRATS]
    assert [is_volume(one) for one in series] == [False, True, True, True, True]
    assert [one.number for one in choose_series(series, BRATS, {}).series.values()] == [2, 3, 4, 5]


def test_a_modality_without_series_is_reported(study):
    folder, _ = study
    for file in (folder / "2").iterdir():
        file.unlink()
    message = refusal(choose_series, read_study(folder), BRATS, {})
    assert message.startswith("FLAIR: no series matches among: series 1 (UID ...")
    assert "series 4 (UID ..." in message
    assert message.endswith("select one with --series=FLAIR=NUMBER")


def test_two_candidates_are_reported_and_one_can_be_requested(study):
    folder, identity = study
    write_modality(folder / "9", VOXELS, np.eye(4), identity, 9, "T1ce")
    series = read_study(folder)
    message = refusal(choose_series, series, BRATS, {})
    assert message.startswith("T1ce: 2 series match: series 3 (UID ...")
    assert "series 9" in message
    assert choose_series(series, BRATS, {"T1ce": "9"}).series["T1ce"].number == 9
    assert choose_series(series, BRATS, {"T1ce": series[2].uid}).series["T1ce"].number == 3


def test_a_requested_series_is_no_candidate_for_another_modality(study):
    folder, _ = study
    message = refusal(choose_series, read_study(folder), BRATS, {"T1ce": "4"})
    assert message.startswith("T1: the evidence is doubtful: series 3")
    assert "series 4 (UID ..." in message
    assert "): requested by --series; " in message


@pytest.mark.parametrize(
    ("requested", "message"),
    [
        ({"T1": "77"}, "--series=T1=77: no such series"),
        ({"T1": "1"}, "--series=T1=1: a localiser; expected 10 or more MR images in one orientation"),
        ({"T1": "2", "T2": "2"}, "--series: one series is given for two modalities"),
    ],
)
def test_an_unusable_request_is_refused(study, requested, message):
    assert refusal(choose_series, read_study(study[0]), BRATS, requested).startswith(message)


def test_another_frame_of_reference_is_refused(study):
    folder, identity = study
    for file in (folder / "5").iterdir():
        file.unlink()
    write_modality(folder / "5", VOXELS, np.eye(4), identity, 5, "T2", FrameOfReferenceUID="1.2.3")
    assert refusal(choose_series, read_study(folder), BRATS, {}).startswith(
        "--input: 2 frames of reference among FLAIR"
    )


def test_a_study_without_frame_of_reference_is_refused(study):
    folder, _ = study
    for file in folder.rglob("*.dcm"):
        change(file, FrameOfReferenceUID="")
    assert refusal(choose_series, read_study(folder), BRATS, {}).startswith(
        "--input: 1 frames of reference among FLAIR"
    )


def test_another_frame_of_reference_within_a_series_is_refused(study):
    folder, _ = study
    change(sorted((folder / "5").iterdir())[3], FrameOfReferenceUID="1.2.3")
    assert refusal(choose_series, read_study(folder), BRATS, {}).startswith(
        "--input: 2 frames of reference among FLAIR"
    )


def test_few_slices_and_other_kinds_of_images_are_not_a_volume(tmp_path):
    identity = Study()
    write_modality(tmp_path / "1", VOXELS[:, :, :9], np.eye(4), identity, 1, "T1")
    write_series(tmp_path / "2", VOXELS, np.eye(4), identity, 2, Modality="CT")
    write_series(tmp_path / "3", VOXELS, np.eye(4), identity, 3)
    study = read_study(tmp_path)
    assert [is_volume(series) for series in study] == [False, False, True]
    message = refusal(choose_series, study, ("T1",), {})
    reasons = re.findall(r"series \d \(UID \.\.\.[\d.]+\): ([^;]+);", message)
    assert reasons == ["only 9 positions", "not MR", "neither words nor times say what it is"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("T1=5,T1ce=9", {"T1": "5", "T1ce": "9"}), ("", {}), ("T1=1.2.3", {"T1": "1.2.3"})],
)
def test_the_series_option_names_a_series_for_each_modality(text, expected):
    assert parse_series_option(text, BRATS) == expected


def test_a_number_is_enough_for_one_modality():
    assert parse_series_option(5, ("T1",)) == {"T1": "5"}


@pytest.mark.parametrize("text", ["T1", "T1=", "T3=5", "T1=5,T1=6", 5])
def test_a_malformed_series_option_is_refused(text):
    message = refusal(parse_series_option, text, BRATS)
    assert message == f"--series={text}: expected MODALITY=NUMBER, at most once for each of FLAIR, T1ce, T1, T2"
