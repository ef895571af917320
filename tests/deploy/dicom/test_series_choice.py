"""The choice of series in whole studies, and the evidence of single headers."""

import re
import shutil

import numpy as np
import pytest

from deploy.dicom.series.choice import choose_series
from deploy.dicom.series.words import read_table
from deploy.dicom.study import read_study
from tests.deploy.dicom.dicom_study import VOXELS, Study, modality_of, refusal, to_slices, write_modality

AGENT = "gadobutrol"
INJECTED = {"agent": AGENT, "ContrastBolusStartTime": "101500"}
PAIR = ("T1ce", "T1")


def t1(description="T1", at=None, agent=None, **values):
    """Return the attributes of a T1 series."""
    attributes = {"SeriesDescription": description, "ContrastBolusAgent": agent} | values
    return attributes | ({"AcquisitionTime": at} if at else {})


@pytest.fixture
def write_study(tmp_path):
    """Writes series, numbered from 1, into a folder, and reads them."""
    identity = Study()

    def write(*series):
        shutil.rmtree(tmp_path / "study", ignore_errors=True)
        for number, attributes in enumerate(series, 1):
            values = {"StudyDate": "20260102"} | attributes
            array, affine = values.pop("voxels", (VOXELS * number, np.eye(4)))
            write_modality(tmp_path / "study" / str(number), array, affine, identity, number, "T1", **values)
        return read_study(tmp_path / "study")

    return write


def plain(text):
    """Return a text without the ends of UIDs."""
    return re.sub(r" \(UID \.\.\.[\d.]+\)", "", text)


def choose(series, **requested):
    """Return the numbers of the chosen series, the remarks, and the evidence."""
    choice = choose_series(series, PAIR, requested)
    numbers = [choice.series[modality].number for modality in PAIR]
    return numbers, [plain(remark.text) for remark in choice.remarks], choice.reasons


def question(series, **requested):
    message = plain(refusal(choose_series, series, PAIR, requested))
    assert "; select one with --series=" in message
    return message


THICK = {"MRAcquisitionType": "2D", "voxels": (np.ones((4, 4, 24), np.uint16), np.diag([40.0, 40.0, 6.0, 1.0]))}
CORONAL = {"voxels": to_slices(np.ones((4, 24, 4), np.uint16), np.diag([40.0, 6.0, 40.0, 1.0]), axis=1)}
THIN = {"MRAcquisitionType": "3D", "voxels": (np.ones((120, 120, 120), np.uint16), np.eye(4))}
PART = THIN | {"voxels": (np.ones((120, 120, 99), np.uint16), np.eye(4))}
EARLY, LATE, LATE_AGENT = t1(at="100000"), t1(at="103000"), t1(at="103000", agent=AGENT)
KEPT = t1(at="100000", agent=AGENT)
FIRST, SECOND = {"AcquisitionTime": "100000"}, {"AcquisitionTime": "110001"}  # an hour apart, and a second
REFORMAT = t1("T1 +C", agent=AGENT, ImageType=["DERIVED", "SECONDARY", "MPR"])
NAME_ALONE = "T1ce: its name states contrast agent, its header does not"
ONLY = "T1ce: {} series fit; series 3 was chosen as the only {} scan among them"
CORRECTED = "series 3 was taken, the scanner's correction of series 2"
STATED = t1("T1 +C", at="103000", agent=AGENT)


def image_type(*values):
    return {"ImageType": ["ORIGINAL", "PRIMARY", "M", *values]}


RAW = image_type("ND")


def after_agent(**values):
    return t1("T1 +C", agent=AGENT, **THICK | values)


CHOSEN = {  # numbers of T1ce and T1, remarks, series
    "a word": ([2, 1], [NAME_ALONE], t1(), t1("T1 +C")),
    "an agent in one header": ([2, 1], [], EARLY, LATE_AGENT),
    '"post" and an agent': ([2, 1], [], EARLY, t1("T1 post", at="103000", agent=AGENT)),
    "an agent in each header, and the time of the injection": ([2, 1], [], KEPT, t1(at="103000", **INJECTED)),
    "a T1 before the T1ce": ([1, 3], [], t1("T1 +C", at="102000", agent=AGENT), t1("SAG T1", at="103000"), EARLY),
    "a T1 before each that may have agent": ([3, 1], [], EARLY, t1(at="102000"), STATED, t1("T1 post", at="101000")),
    "a name beside an agent that was entered early": ([3, 1], [], EARLY, t1(at="100500", agent=AGENT, **THIN), STATED),
    "a reformat": ([3, 1], [], t1(), REFORMAT, t1("T1 +C", agent=AGENT)),
    "the only thin 3D scan": ([3, 1], [ONLY.format(3, "3D")], t1(), after_agent(), after_agent(**THIN), after_agent()),
    "the only axial scan": ([3, 1], [ONLY.format(2, "axial")], t1(), after_agent(**CORONAL), after_agent()),
    "distortion corrected": ([1, 3], [f"T1: {CORRECTED}"], STATED, EARLY | RAW, EARLY | image_type("DIS3D")),
    "normalised": ([3, 1], [f"T1ce: {CORRECTED}"], EARLY, STATED | RAW, STATED | image_type("ND", "NORM")),
}


@pytest.mark.parametrize("name", CHOSEN)
def test_statements_choose_t1ce_and_t1(write_study, name):
    numbers, remarks, *series = CHOSEN[name]
    assert choose(write_study(*series))[:2] == (numbers, remarks)


NO_AGENT = "T1ce: no series states contrast agent in its name or header"
DOUBT, DOUBT_T1 = "T1ce: the evidence is doubtful", "T1: the evidence is doubtful"
AFTER = "T1: scanned after contrast agent"
TWO, TWO_T1 = "T1ce: 2 series match", "T1: 2 series match"
DOUBTFUL = {  # start of the question, series
    "a later scan of the same kind": (NO_AGENT, EARLY, LATE),
    '"post"': (DOUBT, EARLY, t1("AX T1 post", at="103000")),
    "after a seizure": (DOUBT, t1("AX T1", at="100000"), t1("t1_mprage post seizure", at="103000", EchoTime=3)),
    "words against the order": (AFTER, t1("T1 pre", at="103000"), t1("T1 post gado", at="100000")),
    "words against the injection": (DOUBT, EARLY, t1("T1 +C", at="101000", **INJECTED)),
    "no agent, after the injection": (DOUBT, t1(at="100000", **INJECTED), t1(at="103000")),
    "an agent in each header": (DOUBT, KEPT, LATE_AGENT),
    "unclear words": (DOUBT, t1(), t1("T1 (+)")),
    "an unread T1 beside a T1ce": (DOUBT_T1, t1("T1 quux"), t1("T1 +C", agent=AGENT)),
    "a silent T1 after the T1ce": (AFTER, t1("T1 +C", at="102000", agent=AGENT), LATE),
    "two T1ce by words": (TWO, t1(), t1("T1 +C"), t1("T1 +C")),
    "a thin T1ce in another frame": (TWO, t1(), after_agent(FrameOfReferenceUID="1.2"), after_agent(**THIN)),
    "a thin T1ce of another injection": (TWO, t1(), after_agent(**FIRST), after_agent(**THIN, **SECOND)),
    "a thin T1ce of a part of the head": (TWO, t1(), after_agent(), after_agent(**PART)),
    "corrections of different scans": (TWO_T1, STATED, EARLY | RAW, t1(at="100001", **image_type("DIS2D"))),
}


@pytest.mark.parametrize("name", DOUBTFUL)
def test_doubtful_evidence_is_a_question(write_study, name):
    start, *series = DOUBTFUL[name]
    assert question(write_study(*series)).startswith(start)


def test_a_request_is_obeyed_with_remarks(write_study):
    series = write_study(EARLY, t1("T1 +C", at="103000"))
    numbers, remarks, reasons = choose(series, T1="2", T1ce="1")
    assert (numbers, reasons["T1"]) == ([1, 2], "requested by --series")
    assert remarks == [
        "T1: series 2 was requested; the evidence was: T1 by its name, its name states contrast agent",
        "T1ce: series 1 was scanned before series 2, unlike a T1ce",
    ]
    assert question(series, T1="2").startswith(NO_AGENT)
    assert choose(write_study(EARLY, t1("axial", at="103000")), T1ce="2")[:2] == ([2, 1], []), "it fits"


AFTER_INJECTION = {"101400": "ask", "101600": "ask"}  # at 10:15; up to a minute from it is neither before nor after
AFTER_INJECTION |= {"061501": "T1", "101359": "T1", "101601": "T1ce", "141459": "T1ce"}
AFTER_INJECTION |= {"061500": "ask", "141500": "ask"}  # four hours from it is another day, or a wrong entry


@pytest.mark.parametrize(("at", "expected"), AFTER_INJECTION.items())
def test_the_time_since_the_injection_decides_from_a_minute_to_four_hours(at, expected):
    values = {"SeriesDescription": "T1", "StudyDate": "20260102", "ContrastBolusAgent": AGENT}
    assert modality_of(**values, AcquisitionTime=at, ContrastBolusStartTime="101500") == expected


BY_TIMES = {(60, 2000, 1500): "FLAIR", (60, 2000, 1499): "T2", (59, 2000, None): None, (60, 1999, None): None}
BY_TIMES |= {(3, 2300, 300): "T1", (3, 2300, 299): None}  # inverted
BY_TIMES |= {(15, 199, None): None, (15, 200, None): "T1", (15, 1000, None): "T1", (15, 1001, None): None}


@pytest.mark.parametrize(("times", "expected"), BY_TIMES.items())
def test_times_decide_if_words_do_not(times, expected):
    values = dict(zip(("EchoTime", "RepetitionTime", "InversionTime"), times, strict=True))
    assert modality_of(SeriesDescription="axial", **values) == expected


TYPES = ("SUBTRACTION_M", "MAX_IP", "MIN_IP", "PROJECTION IMAGE", "SYNTHETIC", "FAT", "F", "R", "I")
RULED_OUT = [
    *[("T1", "EchoTime", 45), ("T2", "EchoTime", 44.9), ("FLAIR", "EchoTime", 44.9), ("T2", "RepetitionTime", 999)],
    *[("FLAIR", "InversionTime", 1199), ("T2", "InversionTime", 1500), ("T1", "BodyPartExamined", "CSPINE")],
    ("T1", "DerivationDescription", "post - pre, Subtracted"),
    *(("T1", "ImageType", ["DERIVED", "PRIMARY", value]) for value in TYPES),
]


@pytest.mark.parametrize(("name", "keyword", "value"), RULED_OUT)
def test_times_body_part_and_image_type_rule_out_what_words_say(name, keyword, value):
    assert modality_of(SeriesDescription=name, **{keyword: value}) is None
    assert modality_of(SeriesDescription="T2", RepetitionTime=1000) == "T2"
    assert modality_of(SeriesDescription="T1", BodyPartExamined="HEADNECK") == "T1"


def test_series_of_two_frames_of_reference_are_refused(write_study):
    series = write_study(t1(), t1("T1 +C", agent=AGENT, FrameOfReferenceUID="1.2.3"))
    assert refusal(choose_series, series, PAIR, {}).startswith("--input: 2 frames of reference among T1ce")
    assert [chosen.number for chosen in choose_series(series, PAIR, {}, one_frame=False).series.values()] == [2, 1]


def test_a_sites_table_answers_for_an_unread_name(write_study, tmp_path):
    series = write_study(t1(), t1("T1 KOPF S1"))
    assert question(series).startswith("T1ce: the evidence is doubtful")
    (tmp_path / "names.yaml").write_text("'t1 kopf s?': T1ce")
    choice = choose_series(series, PAIR, {}, names=read_table(tmp_path / "names.yaml"))
    assert ([chosen.number for chosen in choice.series.values()], choice.remarks) == ([2, 1], [])
