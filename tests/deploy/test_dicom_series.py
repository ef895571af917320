import pytest

pytest.importorskip("pydicom", reason="needs the environment of make deploy")

import numpy as np
import pydicom
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from common.preflight import InputError
from deploy.dicom_series import choose, is_volume, modality_of, read_study, wanted_series
from tests.deploy.dicom_study import IDENTIFIER, NAME, Study, write_localiser, write_modality, write_series

BRATS = ("FLAIR", "T1ce", "T1", "T2")
SMALL = np.ones((4, 4, 12), np.uint16)


def header(description=None, protocol=None, agent=None, echo=None, repetition=None, inversion=None):
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
def test_words_of_the_description_tell_the_modality(description, expected):
    assert modality_of(header(description)) == expected


def test_an_agent_in_the_header_makes_a_t1_enhanced_unless_words_deny_it():
    assert modality_of(header("t1_mprage", agent="Gadobutrol")) == "T1ce"
    assert modality_of(header("t1_mprage", agent="NONE")) == "T1"
    assert modality_of(header("t1_mprage pre", agent="Gadobutrol")) == "T1"
    assert modality_of(header("t2_tse", agent="Gadobutrol")) == "T2"


def test_the_protocol_speaks_where_the_description_does_not():
    assert modality_of(header("axial", protocol="t2_flair")) == "FLAIR"
    assert modality_of(header("t1", protocol="t2_flair")) == "T1"
    assert modality_of(header(None, protocol="ep2d_diff_T2", echo=90, repetition=5000)) is None


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
def test_times_speak_where_no_words_do(times, expected):
    echo, repetition, inversion = times
    assert modality_of(header("axial", echo=echo, repetition=repetition, inversion=inversion)) == expected


@pytest.fixture
def study(tmp_path):
    """A localiser and the four series of BraTS, numbered 2 to 5."""
    identity = Study()
    write_localiser(tmp_path / "study/1", identity)
    for number, modality in enumerate(BRATS, 2):
        write_modality(tmp_path / f"study/{number}", SMALL, np.eye(4), identity, number, modality, shuffle=True)
    return tmp_path / "study", identity


def test_four_series_are_found_beside_a_localiser(study):
    series = read_study(study[0])
    assert [each.modality for each in series] == [None, *BRATS]
    assert [is_volume(each) for each in series] == [False, True, True, True, True]
    assert [each.number for each in choose(series, BRATS, {}).values()] == [2, 3, 4, 5]


def test_files_that_are_no_dicom_and_copies_are_passed_over(study):
    folder, _ = study
    (folder / "README.txt").write_text("text")
    file = next((folder / "3").iterdir())
    (folder / "copy.dcm").write_bytes(file.read_bytes())
    assert len(choose(read_study(folder), BRATS, {})["T1ce"].instances) == 12


def change(file, **values):
    image = pydicom.dcmread(file)
    for keyword, value in values.items():
        setattr(image, keyword, value)
    image.save_as(file)


@pytest.mark.parametrize("values", [{"PixelData": bytes(32)}, {"PatientID": "SENTINEL-ID-4712"}])
def test_other_content_under_the_uid_of_an_image_is_refused(study, values):
    """Such as a scan before and after skull stripping by a tool that keeps UIDs, or of another patient."""
    folder, _ = study
    (folder / "9").mkdir()
    (folder / "9/copy.dcm").write_bytes(next((folder / "3").iterdir()).read_bytes())
    change(folder / "9/copy.dcm", **values)
    assert refusal(read_study, folder).startswith("--input: two files of different content with one SOPInstanceUID")


def refusal(call, *arguments):
    with pytest.raises(InputError) as error:
        call(*arguments)
    message = str(error.value)
    assert "\n" not in message
    assert "SENTINEL" not in message
    assert "mprage" not in message
    return message


def test_a_missing_series_is_named(study):
    folder, _ = study
    for file in (folder / "2").iterdir():
        file.unlink()
    message = refusal(choose, read_study(folder), BRATS, {})
    assert message.startswith("FLAIR: no series fits among: series 1 (UID ...")
    assert "series 4 (UID ..." in message
    assert message.endswith("name it with --series=FLAIR=NUMBER")


def test_two_candidates_are_named_and_one_can_be_chosen(study):
    folder, identity = study
    write_modality(folder / "9", SMALL, np.eye(4), identity, 9, "T1ce")
    series = read_study(folder)
    message = refusal(choose, series, BRATS, {})
    assert message.startswith("T1ce: 2 series fit: series 3 (UID ...")
    assert "series 9" in message
    assert choose(series, BRATS, {"T1ce": "9"})["T1ce"].number == 9
    assert choose(series, BRATS, {"T1ce": series[2].uid})["T1ce"].number == 3


def test_a_chosen_series_is_no_candidate_for_another_modality(study):
    folder, _ = study
    message = refusal(choose, read_study(folder), BRATS, {"T1ce": "4"})
    assert message.startswith("T1: no series fits")


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"T1": "77"}, "--series=T1=77: no such series"),
        ({"T1": "1"}, "--series=T1=1: no volume"),
        ({"T1": "2", "T2": "2"}, "--series: one series for two modalities"),
    ],
)
def test_a_choice_that_cannot_be_is_refused(study, wanted, message):
    assert refusal(choose, read_study(study[0]), BRATS, wanted).startswith(message)


def test_mixed_patients_are_refused(study):
    folder, identity = study
    write_modality(folder / "6", SMALL, np.eye(4), identity.other_patient(), 6, "T1")
    assert refusal(read_study, folder) == "--input: images of 2 patients; expected one"


def test_patients_without_number_are_told_apart_by_name(tmp_path):
    for number, name in enumerate((NAME, "OTHER^SENTINEL"), 1):
        write_modality(tmp_path / str(number), SMALL, np.eye(4), Study("1.2", "1.3", name, ""), number, "T1")
    assert refusal(read_study, tmp_path) == "--input: images of 2 patients; expected one"


def test_several_studies_are_refused(study):
    folder, _ = study
    write_modality(folder / "6", SMALL, np.eye(4), Study(), 6, "T1")
    assert refusal(read_study, folder) == "--input: 2 studies; expected one"


def test_another_frame_of_reference_is_refused(study):
    folder, identity = study
    for file in (folder / "5").iterdir():
        file.unlink()
    write_modality(folder / "5", SMALL, np.eye(4), identity, 5, "T2", FrameOfReferenceUID="1.2.3")
    assert refusal(choose, read_study(folder), BRATS, {}).startswith("--input: 2 frames of reference among FLAIR")


def test_another_frame_of_reference_within_a_series_is_refused(study):
    folder, _ = study
    change(sorted((folder / "5").iterdir())[3], FrameOfReferenceUID="1.2.3")
    assert refusal(choose, read_study(folder), BRATS, {}).startswith("--input: 2 frames of reference among FLAIR")


def test_a_folder_without_dicom_and_a_missing_one_are_refused(tmp_path):
    (tmp_path / "a.txt").write_text(NAME)
    assert refusal(read_study, tmp_path) == "--input: no DICOM file in it; expected those of one study"
    message = refusal(read_study, tmp_path / IDENTIFIER)
    assert message == "--input: no such folder; expected one with the DICOM files of one study"


def test_links_are_followed_inside_of_the_folder_alone(study, tmp_path):
    folder, _ = study
    (folder / "link.dcm").symlink_to(next((folder / "3").iterdir()))
    assert len(read_study(folder)) == 5
    (tmp_path / "elsewhere").mkdir()
    (folder / "links").symlink_to(tmp_path / "elsewhere")
    assert refusal(read_study, folder).startswith("--input: a link in it leads out of it")


def test_a_broken_header_is_told_without_its_content(study):
    folder, _ = study
    file = next((folder / "3").iterdir())
    file.write_bytes(file.read_bytes()[:200])  # ends within the first group
    assert refusal(read_study, folder).startswith("--input: a DICOM file in it has no UIDs: it is broken")


@pytest.mark.parametrize(
    ("name", "content"), [("IM0001", b""), ("a.dcm", b""), ("a.DCM", b"SENTINEL"), ("a.IMA", b"S")]
)
def test_what_an_export_left_behind_that_broke_off_is_told(study, name, content):
    """Passed over in silence, it could be the last slice of a series, which nobody would miss."""
    (study[0] / name).write_bytes(content)
    assert refusal(read_study, study[0]).startswith("--input: a file in it is empty or damaged")


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("SeriesNumber", b"SENTINEL"),
        ("EchoTime", b"SENTINEL"),
        ("EchoTime", b"3\\5 "),
        ("PixelSpacing", b"1 "),
        ("ImagePositionPatient", b"1\\2 "),
        ("ImageOrientationPatient", b"1\\0\\0 "),
        ("SeriesInstanceUID", b"1.2/../SENTINEL\n<b> "),
        ("StudyInstanceUID", b""),
    ],
)
def test_broken_values_are_told_without_their_content(study, keyword, value):
    folder, _ = study
    file = next((folder / "3").iterdir())
    image = pydicom.dcmread(file)
    tag = Tag(tag_for_keyword(keyword))
    image._dict[tag] = RawDataElement(tag, dictionary_VR(tag), len(value), value, 0, False, True)
    image.save_as(file)
    assert refusal(read_study, folder).startswith("--input: a DICOM file in it ")


def test_few_slices_and_other_kinds_of_images_are_no_volume(tmp_path):
    identity = Study()
    write_modality(tmp_path / "1", SMALL[:, :, :9], np.eye(4), identity, 1, "T1")
    write_series(tmp_path / "2", SMALL, np.eye(4), identity, 2, Modality="CT")
    write_series(tmp_path / "3", SMALL, np.eye(4), identity, 3, ImagePositionPatient=None)
    assert [is_volume(series) for series in read_study(tmp_path)] == [False, False, True]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("T1=5,T1ce=9", {"T1": "5", "T1ce": "9"}), ("", {}), ("T1=1.2.3", {"T1": "1.2.3"})],
)
def test_series_are_chosen_by_words(text, expected):
    assert wanted_series(text, BRATS) == expected


def test_one_number_will_do_for_one_modality():
    assert wanted_series(5, ("T1",)) == {"T1": "5"}


@pytest.mark.parametrize("text", ["T1", "T1=", "T3=5", "T1=5,T1=6", 5])
def test_other_words_are_refused(text):
    assert refusal(wanted_series, text, BRATS).startswith(f"--series={text}: expected MODALITY=NUMBER")
