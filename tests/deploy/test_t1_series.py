"""T1 before and after contrast agent in whole studies, with the voxels of a glioma where voxels decide."""

import re
import shutil

import numpy as np
import pytest

pytest.importorskip("pydicom", reason="needs the environment of make deploy")

from deploy.series_choice import choose_series, modality_of
from deploy.study import read_study
from tests.deploy.checks import refusal
from tests.deploy.dicom_study import Study, brats_files, read, write_modality
from tests.deploy.enhanced_mr import write_enhanced

VOXELS = np.ones((4, 4, 10), np.uint16)
DAY = "20260102"
AGENT = "gadobutrol"
NO_AGENT = "no series shows contrast agent by words or header"


@pytest.fixture
def study(tmp_path, cohorts):
    """Writes T1 series, numbered from 1, into a folder; `scan` names whose voxels they get, T1 or T1ce of a glioma."""
    identity = Study()

    def write(*series):
        shutil.rmtree(tmp_path / "study", ignore_errors=True)
        for number, attributes in enumerate(series, 1):
            values = dict(attributes)
            scan = values.pop("scan", None)
            voxels = values.pop("voxels", (VOXELS, np.eye(4)))
            array, affine = read(brats_files(cohorts("brats"))[scan]) if scan else voxels
            common = {"StudyDate": DAY, "ContrastBolusAgent": None}
            write_modality(tmp_path / "study" / str(number), array, affine, identity, number, "T1", **(common | values))
        return read_study(tmp_path / "study")

    return write


def t1(description, at=None, agent=None, scan=None, **values):
    found = {"SeriesDescription": description, "scan": scan, "ContrastBolusAgent": agent} | values
    return found | ({"AcquisitionTime": at} if at else {})


def choose(series, modalities=("T1ce", "T1"), **requested):
    """T1ce and T1 by number, and the choice."""
    choice = choose_series(series, modalities, requested)
    return [choice.series[modality].number for modality in modalities], choice


def question(series, modalities=("T1ce", "T1"), **requested):
    message = refusal(choose_series, series, modalities, requested)
    assert "select one with --series=" in message
    return message


def test_clear_words_that_the_voxels_confirm_need_no_remark(study):
    numbers, choice = choose(study(t1("T1", scan="T1"), t1("T1 +C", scan="T1ce")))
    assert numbers == [2, 1]
    assert choice.remarks == []
    assert "its words say with agent" in choice.reasons["T1ce"]
    assert "is brighter by its voxels than series 1" in choice.reasons["T1ce"]


def test_words_alone_choose_with_a_remark(study):
    numbers, choice = choose(study(t1("T1"), t1("T1 +C")))
    assert numbers == [2, 1]
    remark, native = choice.remarks
    assert "nothing says that series 1" in native
    assert remark == (
        f"T1ce: {choice.series['T1ce'].name} was chosen by its words alone; "
        "its voxels are not brighter than those of the T1"
    )


def test_voxels_that_could_not_be_compared_are_not_called_equal(study):
    _, choice = choose(study(t1("T1", RepetitionTime=9), t1("T1 +C", RepetitionTime=500)))
    words_alone, native = choice.remarks
    assert words_alone.endswith("was chosen by its words alone; voxels could not be compared")
    assert native.startswith("T1: nothing says that series 1")
    assert native.endswith("is native; for the T1ce, voxels could not be compared")


def test_words_that_the_voxels_contradict_are_a_question(study):
    message = question(study(t1("T1", scan="T1ce"), t1("T1 +C", scan="T1")))
    assert message.startswith("T1: the evidence is doubtful: series 1")
    assert "is darker by its voxels than series 1" in message


def test_words_that_the_order_contradicts_are_a_question(study):
    message = question(study(t1("T1 pre", at="103000"), t1("T1 post", at="100000")))
    assert "was scanned before series 1" in message


def test_words_that_the_injection_contradicts_are_a_question(study):
    injected = {"ContrastBolusStartTime": "101500"}
    message = question(study(t1("T1", at="100000"), t1("T1 post", at="101000", agent=AGENT, **injected)))
    assert message.startswith("T1ce: the evidence is doubtful")
    assert "its words say with agent, scanned before the injection" in message


@pytest.mark.parametrize(("agent", "problem"), [(None, NO_AGENT), (AGENT, "the evidence is doubtful")])
def test_two_t1_that_nothing_distinguishes_are_a_question(study, agent, problem):
    """An agent in the header of every series says nothing, as scanners keep it; nor does the order alone."""
    message = question(study(t1("T1", at="100000", agent=agent), t1("T1", at="103000", agent=agent)))
    assert message.startswith(f"T1ce: {problem}")


def test_voxels_alone_are_a_question(study):
    assert question(study(t1("T1", scan="T1"), t1("T1", scan="T1ce"))).startswith(f"T1ce: {NO_AGENT}")


def test_without_a_t1ce_the_question_lists_every_series_and_why_it_was_ruled_out(study):
    series = study(
        t1("ep2d_diff"),
        t1("T1"),
        t1("T1 +C", ImageType=["DERIVED", "SECONDARY", "SUBTRACTED"]),
        t1("T1 +C", BodyPartExamined="CSPINE"),
        t1("T1 +C", EchoTime=100),
        t1("T1 +C", Modality="CT"),
        t1("axial", EchoTime=20),
        t1("T1 +C", AngioFlag="Y"),
        t1("T1 +C", ScanningSequence="EP"),
    )
    found = re.sub(r" \(UID \.\.\.[\d.]+\)", "", question(series))
    assert found == (
        f"T1ce: {NO_AGENT}: series 2: T1 by its words"
        "; series 1: its words name another image or part of the body"
        "; series 3: its image type names another image"
        "; series 4: it shows another part of the body"
        "; series 5: its words and its times contradict each other"
        "; series 6: not MR"
        "; series 7: neither words nor times say what it is"
        "; series 8: angiography"
        "; series 9: echo-planar imaging"
        "; select one with --series=T1ce=NUMBER"
    )


@pytest.mark.parametrize(
    "unclear",
    [t1("T1 (+)"), t1("AX T1 CON"), t1("T1 declined GAD"), t1("T1", agent=AGENT)],
    ids=lambda series: series["SeriesDescription"],
)
def test_weak_evidence_needs_the_voxels(study, unclear):
    message = question(study(t1("T1"), unclear))
    assert message.startswith("T1ce: the evidence is doubtful")


@pytest.mark.parametrize("unclear", [t1("T1 (+)"), t1("AX T1 CON"), t1("T1", agent=AGENT)], ids=str)
def test_weak_evidence_that_the_voxels_confirm_chooses_with_a_remark(study, unclear):
    numbers, choice = choose(study(t1("T1", scan="T1"), unclear | {"scan": "T1ce"}))
    assert numbers == [2, 1]
    (remark,) = choice.remarks
    assert remark.startswith("T1 and T1ce: weak evidence, confirmed because series 2")


def test_weak_evidence_that_the_voxels_contradict_is_a_question(study):
    question(study(t1("T1", scan="T1ce"), t1("T1", agent=AGENT, scan="T1")))
    question(study(t1("T1 (-)", scan="T1ce"), t1("T1 (+)", scan="T1")))


def test_unclear_words_of_both_are_a_question_whatever_the_voxels_say(study):
    question(study(t1("T1 (-)", scan="T1"), t1("T1 (+)", scan="T1ce")))


def test_an_agent_that_appears_between_two_scans_of_a_kind_chooses_with_a_remark(study):
    numbers, choice = choose(study(t1("T1", at="100000"), t1("T1", at="103000", agent=AGENT)))
    assert numbers == [2, 1]
    assert len(choice.remarks) == 1
    series = study(t1("T1", at="100000"), t1("T1", at="103000", agent=AGENT, EchoTime=15))
    assert question(series).startswith("T1ce: the evidence is doubtful"), "another kind of scan"


def test_the_time_of_the_injection_chooses(study):
    injected = {"ContrastBolusStartTime": "101500", "agent": AGENT}
    numbers, _ = choose(study(t1("T1", at="100000", agent=AGENT), t1("T1", at="103000", **injected)))
    assert numbers == [2, 1]


def test_a_t1_without_words_that_was_scanned_after_the_t1ce_is_not_native(study):
    after = [t1("T1 +C", at="102000", agent=AGENT), t1("SAG T1", at="103000")]
    assert question(study(*after)).startswith("T1: the evidence is doubtful")
    numbers, _ = choose(study(*after, t1("T1", at="100000")))
    assert numbers == [1, 3]


def test_a_t1_that_says_so_goes_before_one_that_says_nothing(study):
    assert choose(study(t1("T1 pre"), t1("T1"), t1("T1 post", agent=AGENT)))[0] == [3, 1]


def test_two_t1_that_say_nothing_are_a_question(study):
    assert question(study(t1("AX T1"), t1("SAG T1"), t1("T1 post", agent=AGENT))).startswith("T1: 2 series match")


def test_an_agent_kept_by_the_scanner_does_not_make_a_t1_enhanced(study):
    kept = [t1("T1", at="100000", agent=AGENT), t1("T1 +C", at="103000", agent=AGENT)]
    numbers, choice = choose(study(*kept))
    assert numbers == [2, 1]
    assert choice.remarks[0].startswith("T1 and T1ce: weak evidence, confirmed because")
    kept[0].pop("AcquisitionTime")
    assert question(study(*kept)).startswith("T1: the evidence is doubtful")


@pytest.mark.parametrize("agent", ["", "NONE", "no contrast", "ohne KM", "keine"])
def test_an_agent_that_is_denied_is_none(study, agent):
    numbers, choice = choose(study(t1("T1", agent=agent), t1("T1 +C", agent=AGENT)))
    assert numbers == [2, 1]
    assert choice.remarks == []
    assert choice.reasons["T1"] == "T1 by its words, its header names no agent"


def test_a_t1_about_which_nothing_is_known_is_remarked_on_if_the_t1ce_does_not_outshine_it(study):
    injected = {"ContrastBolusStartTime": "101500"}
    numbers, choice = choose(study(t1("T1"), t1("T1 +C", at="103000", **injected)))
    assert numbers == [2, 1]
    assert "nothing says that series 1" in choice.remarks[0]


def test_reformats_are_not_counted(study):
    reformat = t1("T1 +C", agent=AGENT, ImageType=["DERIVED", "SECONDARY", "MPR"])
    assert choose(study(t1("T1"), reformat, t1("T1 +C", agent=AGENT)))[0] == [3, 1]
    assert question(study(t1("T1"), t1("T1 +C"), t1("T1 +C"))).startswith("T1ce: 2 series match")


THICK = np.ones((4, 4, 24), np.uint16), np.diag([40.0, 40.0, 6.0, 1.0])


def after_agent(**values):
    return t1("T1 +C", agent=AGENT, **({"MRAcquisitionType": "2D", "voxels": THICK} | values))


THIN = {"MRAcquisitionType": "3D", "voxels": (np.ones((120, 120, 120), np.uint16), np.eye(4))}


def test_of_several_t1ce_the_only_3d_scan_of_the_whole_head_is_chosen_with_a_remark(study):
    numbers, choice = choose(study(t1("T1"), after_agent(), after_agent(**THIN), after_agent()))
    assert numbers == [3, 1]
    assert choice.remarks[0].startswith("T1ce: 3 series show contrast agent; series 3 (UID ")
    assert choice.remarks[0].endswith(" was chosen as the only 3D scan among them")


@pytest.mark.parametrize(
    "others",
    [
        [after_agent(**THIN), after_agent(**THIN)],
        [after_agent(), after_agent()],
        [after_agent(), after_agent(**THIN) | {"ContrastBolusAgent": None}],
        [after_agent(), after_agent(**THIN) | {"SeriesDescription": "T1"}],
        [after_agent() | {"FrameOfReferenceUID": "1.2.3"}, after_agent(**THIN)],
        [after_agent(AcquisitionTime="100000"), after_agent(AcquisitionTime="113000", **THIN)],
        [after_agent(), after_agent(MRAcquisitionType="3D")],
        [after_agent(), after_agent(**THIN | {"voxels": (np.ones((120, 120, 99), np.uint16), np.eye(4))})],
    ],
    ids=[
        "two 3D",
        "no 3D",
        "agent by words only",
        "agent by header only",
        "frames",
        "times",
        "thick",
        "part of a head",
    ],
)
def test_several_t1ce_are_a_question_if_more_than_the_slices_differs(study, others):
    series = study(t1("T1"), *others)
    if others[1]["SeriesDescription"] == "T1":
        assert choose(series)[0] == [2, 1], "what says so clearly goes before what does not"
    else:
        assert question(series).startswith("T1ce: 2 series match")


def test_another_flair_after_agent_is_not_counted(study):
    flair = {"EchoTime": 110, "RepetitionTime": 9000, "InversionTime": 2500}
    assert choose(study(t1("FLAIR +C", **flair), t1("FLAIR", **flair)), ("FLAIR",))[0] == [2]


def test_a_model_of_t1_alone_does_not_take_an_enhanced_t1(study):
    assert choose(study(t1("T1")), ("T1",))[0] == [1]
    assert choose(study(t1("T1"), t1("T1 +C")), ("T1",))[0] == [1]
    assert choose(study(t1("T1 nativ", agent=AGENT)), ("T1",))[0] == [1]
    assert question(study(t1("T1 +C"))[:1], ("T1",)).startswith("T1: the evidence is doubtful")


@pytest.mark.parametrize("series", [t1("T1", agent=AGENT), t1("T1 (+)"), t1("T1 pre/post")], ids=str)
def test_a_single_t1_with_signs_of_agent_is_a_question(study, series):
    assert question(study(series), ("T1",)).startswith("T1: the evidence is doubtful")


def test_a_t1_that_an_enhanced_one_does_not_outshine_is_a_question_for_a_model_of_t1_alone(study):
    series = study(t1("T1", scan="T1ce"), t1("T1 +C", scan="T1"))
    assert "is darker by its voxels than series 1" in question(series, ("T1",))


def test_a_request_is_obeyed_with_remarks(study):
    series = study(t1("T1", scan="T1"), t1("T1 +C", scan="T1ce"))
    numbers, choice = choose(series, T1="2", T1ce="1")
    assert numbers == [1, 2]
    assert choice.reasons["T1"] == "requested by --series"
    assert len(choice.remarks) == 2
    assert "T1: series 2" in choice.remarks[0]
    assert "the evidence was: T1 by its words, its words say with agent" in choice.remarks[0]
    assert "unlike a T1ce" in choice.remarks[1]
    assert question(series, T1="2").startswith(f"T1ce: {NO_AGENT}")


def test_a_request_is_not_remarked_on_when_it_fits(study):
    numbers, choice = choose(study(t1("T1", scan="T1"), t1("axial", scan="T1ce")), T1ce="2")
    assert numbers == [2, 1]
    assert choice.remarks == []


def test_broken_slices_are_no_evidence(study):
    series = study(t1("T1", scan="T1"), t1("T1 +C", scan="T1ce"))
    for instance in series[0].instances[:3]:
        instance.path.write_bytes(instance.path.read_bytes()[:-9])
    assert "words alone" in choose(series)[1].remarks[0]


def test_the_voxels_of_enhanced_mr_are_compared_like_those_of_single_frames(tmp_path, cohorts):
    def scan_before_the_injection(image):
        image.AcquisitionDateTime = "20260102025500"

    identity, files = Study(), brats_files(cohorts("brats"))
    for number, (modality, change) in enumerate({"T1": scan_before_the_injection, "T1ce": lambda _: None}.items(), 1):
        write_enhanced(tmp_path / str(number), *read(files[modality]), identity, number, modality, change=change)
    numbers, choice = choose(read_study(tmp_path))
    assert numbers == [2, 1]
    assert "is brighter by its voxels than series 1" in choice.reasons["T1ce"]


@pytest.mark.parametrize(
    ("at", "expected"), [("101459", "ask"), ("101400", "ask"), ("101600", "ask"), ("101601", "T1ce"), ("101359", "T1")]
)
def test_a_scan_within_a_minute_of_the_injection_is_neither_before_nor_after_it(study, at, expected):
    (series,) = study(t1("T1", at=at, agent=AGENT, ContrastBolusStartTime="101500"))
    assert modality_of(series.header) == expected


@pytest.mark.parametrize(
    ("at", "expected"), [("141459", "T1ce"), ("141500", "ask"), ("061501", "T1"), ("061500", "ask")]
)
def test_a_scan_four_hours_from_the_injection_is_of_another_day_or_a_wrong_entry(study, at, expected):
    (series,) = study(t1("T1", at=at, agent=AGENT, ContrastBolusStartTime="101500"))
    assert modality_of(series.header) == expected


def test_of_two_injections_the_first_counts(study):
    flair = {"EchoTime": 110, "RepetitionTime": 9000, "InversionTime": 2500}
    late = t1("FLAIR", agent=AGENT, ContrastBolusStartTime="110000", **flair)
    series = study(t1("T1", at="103000", agent=AGENT, ContrastBolusStartTime="101500"), late, t1("T1", at="100000"))
    assert choose(series)[0] == [1, 3]


def test_voxels_of_another_frame_of_reference_are_not_compared(study):
    series = study(t1("T1", scan="T1ce"), t1("T1 +C", scan="T1", FrameOfReferenceUID="1.2.3"))
    assert choose(series, ("T1",))[0] == [1]
