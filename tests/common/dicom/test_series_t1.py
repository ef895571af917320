"""T1 before and after contrast agent in whole studies, with the voxels of a glioma where voxels decide."""

import re
import shutil

import numpy as np
import pytest

from common.dicom.series.choice import choose_series
from common.dicom.study import read_study
from tests.common.dicom.checks import modality_of, refusal
from tests.common.dicom.dicom_study import VOXELS, Study, brats_files, header, read, to_slices, write_modality
from tests.common.dicom.enhanced_mr import write_enhanced

AGENT = "gadobutrol"
INJECTED = {"agent": AGENT, "ContrastBolusStartTime": "101500"}
PAIR = ("T1ce", "T1")


def t1(description="T1", at=None, agent=None, scan=None, **values):
    """Return the attributes of a T1 series; `scan` selects its voxels, T1 or T1ce of a glioma."""
    attributes = {"SeriesDescription": description, "scan": scan, "ContrastBolusAgent": agent} | values
    return attributes | ({"AcquisitionTime": at} if at else {})


@pytest.fixture
def study(tmp_path, cohorts):
    """Writes series, numbered from 1, into a folder, and reads them."""
    identity = Study()

    def write(*series):
        shutil.rmtree(tmp_path / "study", ignore_errors=True)
        for number, attributes in enumerate(series, 1):
            values = {"StudyDate": "20260102"} | attributes
            scan, voxels = values.pop("scan", None), values.pop("voxels", (VOXELS * number, np.eye(4)))
            array, affine = read(brats_files(cohorts("brats"))[scan]) if scan else voxels
            write_modality(tmp_path / "study" / str(number), array, affine, identity, number, "T1", **values)
        return read_study(tmp_path / "study")

    return write


def plain(text):
    """Return a text without the ends of UIDs."""
    return re.sub(r" \(UID \.\.\.[\d.]+\)", "", text)


def choose(series, modalities=PAIR, **requested):
    """Return the numbers of the chosen series, the remarks, and the choice."""
    choice = choose_series(series, modalities, requested)
    return (
        [choice.series[modality].number for modality in modalities],
        [plain(remark.text) for remark in choice.remarks],
        choice,
    )


def question(series, modalities=PAIR, **requested):
    message = plain(refusal(choose_series, series, modalities, requested))
    assert "; select one with --series=" in message
    return message


THICK = {"MRAcquisitionType": "2D", "voxels": (np.ones((4, 4, 24), np.uint16), np.diag([40.0, 40.0, 6.0, 1.0]))}
CORONAL = {"voxels": to_slices(np.ones((4, 24, 4), np.uint16), np.diag([40.0, 6.0, 40.0, 1.0]), axis=1)}
THIN = {"MRAcquisitionType": "3D", "voxels": (np.ones((120, 120, 120), np.uint16), np.eye(4))}
PART = THIN | {"voxels": (np.ones((120, 120, 99), np.uint16), np.eye(4))}
NATIVE, ENHANCED = t1(scan="T1"), t1("T1 +C", scan="T1ce")
LATE_C = t1("T1 +C", at="103000", agent=AGENT)
EARLY, LATE, LATE_AGENT = t1(at="100000"), t1(at="103000"), t1(at="103000", agent=AGENT)
KEPT = t1(at="100000", agent=AGENT)
FLAIR = {"EchoTime": 110, "RepetitionTime": 9000, "InversionTime": 2500}
FIRST, SECOND = {"AcquisitionTime": "100000"}, {"AcquisitionTime": "110001"}  # an hour apart, and a second
REFORMAT = t1("T1 +C", agent=AGENT, ImageType=["DERIVED", "SECONDARY", "MPR"])
NAMES = "T1ce: neither header nor voxels show contrast agent, only name and order"
WEAK = "T1 and T1ce: weak evidence, confirmed by "
ONLY_3D = "T1ce: 3 series fit; series 3 was chosen as the only 3D scan among them"
BRIGHTER = "is brighter by its voxels than series 1"


def after_agent(**values):
    return t1("T1 +C", agent=AGENT, **THICK | values)


CHOSEN = {  # numbers of T1ce and T1, remarks, series
    "words and voxels": ([2, 1], [], NATIVE, ENHANCED),
    "words and an agent": ([2, 1], [], t1(), t1("T1 +C", agent=AGENT)),
    "words and the order": ([2, 1], [NAMES], EARLY, t1("T1 +C", at="103000")),
    "an agent in one header and voxels": ([2, 1], [WEAK + "header, voxels"], NATIVE, t1(agent=AGENT, scan="T1ce")),
    "an unread word, an agent and voxels": (
        [2, 1],
        [WEAK + "header, voxels"],
        NATIVE,
        t1("T1 s gado", agent=AGENT, scan="T1ce"),
    ),
    "the only axial scan": (
        [3, 1],
        [ONLY_3D.replace("3 series", "2 series").replace("3D", "axial")],
        t1(),
        after_agent(**CORONAL),
        after_agent(),
    ),
    "fine slices of a whole head": ([2, 1], [], t1(), t1("T1 fine +C", agent=AGENT, **THIN)),
    "a doubtful T1 before an agent appears": (
        [2, 1],
        [WEAK + "name, header, order"],
        t1("T1 navi", at="100000", **THICK),
        LATE_C,
    ),
    "order and voxels without a word": ([2, 1], [], t1(at="100000", scan="T1"), t1(at="103000", scan="T1ce")),
    "an unread word beside an agent, later": (
        [2, 1],
        [WEAK + "header, order"],
        t1(at="100000"),
        t1("WATER: T1 LAVA +C", at="103000", agent=AGENT, **THICK),
    ),
    "an injection between two unread names": (
        [2, 1],
        [WEAK + "header, order"],
        t1("T1 navi", at="100000", **THICK),
        t1("T1 navi", at="103000", **INJECTED, **THICK),
    ),
    "the last native scan like the T1ce": (
        [3, 1],
        ["T1: 2 series fit; series 1 was chosen as the last such scan before the T1ce"],
        t1(at="100500", **THICK),
        t1(at="100000", **THICK),
        t1("T1 +C", at="103000", agent=AGENT, **THICK),
    ),
    "an agent that appears": ([2, 1], [WEAK + "header, order"], EARLY, LATE_AGENT),
    "a word for after and voxels": ([2, 1], [], NATIVE, t1("T1 post", scan="T1ce")),
    "a word for after and an agent": ([2, 1], [], EARLY, t1("T1 post", at="103000", agent=AGENT)),
    "the time of the injection": ([2, 1], [], KEPT, t1(at="103000", **INJECTED)),
    "a T1 before the T1ce": (
        [1, 3],
        [],
        t1("T1 +C", at="102000", agent=AGENT),
        t1("SAG T1", at="103000"),
        EARLY,
    ),
    "a reformat": (
        [3, 1],
        [],
        t1(),
        REFORMAT,
        t1("T1 +C", agent=AGENT),
    ),
    "the only thin 3D scan": (
        [3, 1],
        [ONLY_3D],
        t1(),
        after_agent(),
        after_agent(**THIN),
        after_agent(),
    ),
}


@pytest.mark.parametrize("name", CHOSEN)
def test_evidence_chooses_t1ce_and_t1(study, name):
    numbers, remarks, *series = CHOSEN[name]
    assert choose(study(*series))[:2] == (numbers, remarks)


def test_reasons_name_the_points_and_the_comparison_of_the_pair(study):
    _, _, choice = choose(study(NATIVE, ENHANCED))
    assert choice.reasons["T1"] == "T1 by its name"
    assert plain(choice.reasons["T1ce"]) == f"T1 by its name, its name states contrast agent; series 2 {BRIGHTER}"
    _, _, choice = choose(study(EARLY, LATE_AGENT))
    compared = "series 2 was scanned after series 1 and cannot be compared by its voxels"
    assert plain(choice.reasons["T1ce"]) == f"T1 by its name, its header names an agent; {compared}"


NO_AGENT = "T1ce: no series shows contrast agent by its name or header"
DOUBT, DOUBT_T1, TWO = "T1ce: the evidence is doubtful", "T1: the evidence is doubtful", "T1ce: 2 series match"
ONE_KIND = "T1ce: only one kind of evidence shows contrast agent"
DOUBTFUL = {  # start of the question, series
    "words against voxels": (DOUBT_T1, t1(scan="T1ce"), t1("T1 +C", scan="T1")),
    "words against the order": (DOUBT_T1, t1("T1 pre", at="103000"), t1("T1 post", at="100000")),
    "words against the injection": (DOUBT, EARLY, t1("T1 post", at="101000", **INJECTED)),
    "a word for after, and the order, are one kind": (ONE_KIND, EARLY, t1("AX T1 post", at="103000")),
    "after a treatment": (DOUBT, EARLY, t1("AX T1 post LINAC", at="103000")),
    "after a seizure": (DOUBT, t1("AX T1", at="100000"), t1("t1_mprage post seizure", at="103000", EchoTime=3)),
    "the order alone": (NO_AGENT, EARLY, LATE),
    "the order, an agent in each header": (DOUBT, KEPT, LATE_AGENT),
    "voxels alone": (NO_AGENT, NATIVE, t1(scan="T1ce")),
    "unclear words": (DOUBT, t1(), t1("T1 (+)")),
    "an unread word beside an agent, of a part of the head": (
        DOUBT,
        t1(at="100000"),
        t1("WATER: T1 LAVA +C", at="103000", agent=AGENT, **PART),
    ),
    "fine slices of a part": (DOUBT, t1(), t1("T1 fine +C", agent=AGENT, **PART)),
    "a T1 for navigation": ("T1: the evidence is doubtful", t1("T1 navi"), t1("T1 +C", agent=AGENT)),
    "words alone": (ONE_KIND, t1(), t1("T1 +C")),
    "unclear words and voxels": (DOUBT, NATIVE, t1("T1 (+)", scan="T1ce")),
    "a single letter beside an agent": (DOUBT, EARLY, t1("T1 s gado", at="103000")),
    "an agent in one header": (DOUBT, t1(), t1(agent=AGENT)),
    "an agent that appears in another kind of scan": (DOUBT, EARLY, t1(at="103000", agent=AGENT, EchoTime=15)),
    "a silent T1 after the T1ce": (DOUBT_T1, t1("T1 +C", at="102000", agent=AGENT), LATE),
    "two silent T1": ("T1: 2 series match", t1("AX T1"), t1("SAG T1"), t1("T1 post", agent=AGENT)),
    "two T1ce by words": (TWO, t1(), t1("T1 +C"), t1("T1 +C")),
    "a thin T1ce in another frame": (TWO, t1(), after_agent(FrameOfReferenceUID="1.2"), after_agent(**THIN)),
    "a thin T1ce of another injection": (TWO, t1(), after_agent(**FIRST), after_agent(**THIN, **SECOND)),
    "a thin T1ce of a part of the head": (TWO, t1(), after_agent(), after_agent(**PART)),
}


def test_an_unread_word_beside_an_agent_is_doubtful_without_enhancement(study, cohorts):
    array, affine = read(brats_files(cohorts("brats"))["T1"])
    series = study(t1(at="100000", scan="T1"), t1("T1 quux +C", at="103000", agent=AGENT, voxels=(2 * array, affine)))
    message = question(series)
    assert message.startswith(DOUBT)


def test_series_that_are_too_large_for_a_head_are_not_compared_by_voxels(study, cohorts):
    """Their common grid would take all memory."""
    files = brats_files(cohorts("brats"))
    native, enhanced = (
        t1(words, voxels=(read(files[scan])[0], np.diag([20.0, 20.0, 20.0, 1.0])))
        for words, scan in (("T1", "T1"), ("T1 +C", "T1ce"))
    )
    assert question(study(native, enhanced)).startswith(ONE_KIND)


@pytest.mark.parametrize("name", DOUBTFUL)
def test_doubtful_evidence_is_a_question(study, name):
    start, *series = DOUBTFUL[name]
    message = question(study(*series))
    assert message.startswith(start)
    assert {
        "words against voxels": "is darker by its voxels than series 1;",
        "words against the order": "was scanned before series 1 and",
        "words against the injection": "its name states contrast agent, scanned before the injection",
    }.get(name, "") in message


@pytest.mark.parametrize(
    "series",
    [
        [t1("T1 +C")],
        [t1(agent=AGENT)],
        [t1("T1 (+)")],
        [t1(scan="T1ce"), t1("T1 +C", scan="T1", FrameOfReferenceUID="1.2.3")],
    ],
)
def test_a_model_of_t1_alone_takes_no_doubtful_one(study, series):
    assert question(study(*series), ("T1",)).startswith(DOUBT_T1)


def test_without_a_t1ce_the_question_lists_every_series_and_why_it_was_ruled_out(study):
    series = study(
        t1("ep2d_diff"),
        t1(),
        t1("T1 +C", ImageType=["DERIVED", "SECONDARY", "SUBTRACTED"]),
        t1("T1 +C", BodyPartExamined="CSPINE"),
    )
    assert question(series) == (
        f"{NO_AGENT}: series 2: T1 by its name"
        "; series 1: diffusion by its name"
        "; series 3: its image type is not that of a plain scan"
        "; series 4: it shows another part of the body"
        "; select one with --series=T1ce=NUMBER"
    )


@pytest.mark.parametrize(
    ("modality", "series", "number"),
    [
        ("FLAIR", [t1("FLAIR +C", **FLAIR), t1("FLAIR", **FLAIR)], 2),
        ("T1", [t1()], 1),
        ("T1", [t1(), t1("T1 +C")], 1),
    ],
)
def test_a_model_of_one_modality_takes_a_native_series(study, modality, series, number):
    assert choose(study(*series), (modality,))[0] == [number]


def test_a_request_is_obeyed_with_remarks(study):
    series = study(NATIVE, ENHANCED)
    numbers, remarks, choice = choose(series, T1="2", T1ce="1")
    assert numbers == [1, 2]
    assert choice.reasons["T1"] == "requested by --series"
    assert remarks == [
        "T1: series 2 was requested; the evidence was: T1 by its name, its name states contrast agent",
        "T1ce: series 1 is darker by its voxels than series 2, unlike a T1ce",
    ]
    assert question(series, T1="2").startswith(NO_AGENT)
    assert choose(study(NATIVE, t1("axial", scan="T1ce")), T1ce="2")[:2] == ([2, 1], []), "it fits"


def test_a_t1ce_with_the_voxels_of_the_t1_is_refused(study):
    same = {"voxels": (VOXELS, np.eye(4))}
    series = study(t1(**same), t1("T1 +C", agent=AGENT, **same))
    for requested in ({}, {"T1": "1", "T1ce": "2"}):
        message = plain(refusal(choose_series, series, PAIR, requested))
        assert message == "T1ce: series 2 has the same voxels as the T1, series 1"


def test_the_voxels_of_enhanced_mr_are_compared_like_those_of_single_frames(tmp_path, cohorts):
    def scan_before_the_injection(image):
        image.AcquisitionDateTime = "20260102025500"

    identity, files = Study(), brats_files(cohorts("brats"))
    for number, (modality, change) in enumerate({"T1": scan_before_the_injection, "T1ce": lambda _: None}.items(), 1):
        write_enhanced(tmp_path / str(number), *read(files[modality]), identity, number, modality, change=change)
    numbers, _, choice = choose(read_study(tmp_path))
    assert numbers == [2, 1]
    assert BRIGHTER in plain(choice.reasons["T1ce"])


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("101400", "ask"),  # within a minute of the injection is neither before nor after it
        ("101359", "T1"),
        ("101600", "ask"),
        ("101601", "T1ce"),
        ("141459", "T1ce"),
        ("141500", "ask"),  # four hours from it is another day, or a wrong entry
        ("061501", "T1"),
        ("061500", "ask"),
    ],
)
def test_the_time_since_the_injection_decides_from_a_minute_to_four_hours(at, expected):
    values = {"SeriesDescription": "T1", "StudyDate": "20260102", "ContrastBolusAgent": AGENT}
    times = {"AcquisitionTime": at, "ContrastBolusStartTime": "101500"}
    assert modality_of(header(**values, **times)) == expected
