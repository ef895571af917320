import re

import numpy as np
import pytest

from common.dicom.series.choice import choose_series
from common.dicom.series.evidence import why_no_volume
from common.dicom.series.request import parse_series_option
from common.dicom.study import read_study
from tests.common.dicom.checks import modality_of, refusal
from tests.common.dicom.dicom_study import VOXELS, Study, change, header, write_brats, write_modality, write_series

BRATS = ("FLAIR", "T1ce", "T1", "T2")


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ((60, 2000, 1500), "FLAIR"),
        ((60, 2000, 1499), "T2"),
        ((59, 2000, None), None),
        ((60, 1999, None), None),
        ((3, 2300, 300), "T1"),
        ((3, 2300, 299), None),
        ((15, 200, None), "T1"),
        ((15, 1000, None), "T1"),
        ((15, 199, None), None),
        ((15, 1001, None), None),
    ],
)
def test_times_decide_if_words_do_not(times, expected):
    echo, repetition, inversion = times
    values = {"EchoTime": echo, "RepetitionTime": repetition, "InversionTime": inversion}
    assert modality_of(header(SeriesDescription="axial", **values)) == expected


@pytest.fixture
def study(tmp_path):
    """Folder and identity of a study: a localiser and the four series of BraTS, numbered 2 to 5."""
    identity = Study()
    write_brats(tmp_path / "study", None, identity)
    return tmp_path / "study", identity


def test_four_series_are_found_next_to_a_localiser(study):
    series = read_study(study[0])
    assert [modality_of(entry.header) for entry in series] == [None, *BRATS]
    assert [why_no_volume(entry) for entry in series] == ["a localiser", "", "", "", ""]
    assert [chosen.number for chosen in choose_series(series, BRATS, {}).series.values()] == [2, 3, 4, 5]


def test_two_candidates_are_reported_and_one_can_be_requested(study):
    folder, identity = study
    write_modality(folder / "9", VOXELS, np.eye(4), identity, 9, "T1ce")
    series = read_study(folder)
    message = refusal(choose_series, series, BRATS, {})
    assert message.startswith("T1ce: 2 series match: series 3 (UID ...")
    assert "series 9" in message
    assert choose_series(series, BRATS, {"T1ce": "9"}).series["T1ce"].number == 9
    assert choose_series(series, BRATS, {"T1ce": series[2].uid}).series["T1ce"].number == 3


@pytest.mark.parametrize(
    ("requested", "message"),
    [
        ({"T1ce": "4"}, "T1: the evidence is doubtful: series 3"),  # it is no candidate for T1 any more
        ({"T1": "77"}, "--series=T1=77: no such series"),
        ({"T1": "1"}, "--series=T1=1: a localiser; expected 10 or more MR images in one orientation"),
        ({"T1": "2", "T2": "2"}, "--series: the same series is given for two modalities"),
    ],
)
def test_an_unusable_request_is_refused(study, requested, message):
    assert refusal(choose_series, read_study(study[0]), BRATS, requested).startswith(message)


TWO = "2 frames of reference"


@pytest.mark.parametrize(
    ("files", "uid", "what"),
    [("5/*", "1.2.3", TWO), ("[2-5]/*", "", "images without FrameOfReferenceUID"), ("5/005-0003.dcm", "1.2.3", TWO)],
)
def test_another_or_no_frame_of_reference_is_refused(study, files, uid, what):
    """Of a series, of all series, of an image."""
    for file in study[0].glob(files):
        change(file, FrameOfReferenceUID=uid)
    message = refusal(choose_series, read_study(study[0]), BRATS, {})
    assert message.startswith(f"--input: {what} among FLAIR")


def test_few_slices_and_other_kinds_of_images_are_not_a_volume(tmp_path):
    identity = Study()
    write_modality(tmp_path / "1", VOXELS[:, :, :9], np.eye(4), identity, 1, "T1")
    write_series(tmp_path / "2", VOXELS, np.eye(4), identity, 2)
    change(tmp_path / "2/002-0007.dcm", Modality="CT")  # one image is enough
    write_series(tmp_path / "3", VOXELS[:, :, :10], np.eye(4), identity, 3)
    study = read_study(tmp_path)
    question = refusal(choose_series, study, ("T1",), {})
    reasons = re.findall(r"series \d \(UID \.\.\.[\d.]+\): ([^;]+);", question)
    assert reasons == ["too few positions (9)", "not MR", "neither its name nor its times show what it is"]
    assert question.endswith("; select one with --series=T1=NUMBER")
    question = refusal(choose_series, study[:2], ("T1",), {})
    assert question.endswith(": not MR; expected 10 or more MR images in one orientation"), "no option helps"


@pytest.mark.parametrize(("cosine", "problem"), [(0.99999, ""), (0.98, "several orientations")])
def test_orientations_may_differ_by_rounding(study, cosine, problem):
    folder, _ = study
    change(folder / "5/005-0003.dcm", ImageOrientationPatient=[-cosine, 0, 0, 0, -1, 0])
    assert why_no_volume(read_study(folder)[4]) == problem


def test_lossy_compression_is_a_remark(study):
    folder, _ = study
    change(folder / "5/005-0003.dcm", LossyImageCompression="01")
    remarks = choose_series(read_study(folder), BRATS, {}).remarks
    assert [remark.text[:3] for remark in remarks if remark.kind == "quality"] == ["T2:"]


def test_an_option_is_advised_only_if_a_series_may_fit(tmp_path):
    identity = Study()
    for number, modality in enumerate(("T1", "T2"), 1):
        write_modality(tmp_path / modality, VOXELS, np.eye(4), identity, number, modality)
    message = refusal(choose_series, read_study(tmp_path), ("FLAIR",), {})
    assert message.endswith("; expected a study with a series of FLAIR")
    write_modality(tmp_path / "3", VOXELS, np.eye(4), identity, 3, "T2", SeriesDescription="quux")
    message = refusal(choose_series, read_study(tmp_path), ("FLAIR",), {})
    assert message.endswith("; select one with --series=FLAIR=NUMBER")


def test_the_series_option_names_a_series_for_each_modality():
    assert parse_series_option("T1=5,T1ce=1.2.3", BRATS) == {"T1": "5", "T1ce": "1.2.3"}


@pytest.mark.parametrize("text", ["T1", "T3=5", "T1=5,T1=6"])
def test_a_malformed_series_option_is_refused(text):
    message = refusal(parse_series_option, text, BRATS)
    assert message == f"--series={text}: expected MODALITY=NUMBER, at most once for each of FLAIR, T1ce, T1, T2"
