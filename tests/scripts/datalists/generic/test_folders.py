"""Data sets without a standard, by the command."""

import json

import pytest

from common.errors import InputError
from tests.support import one_line


def test_a_folder_for_each_subject(data):
    """Names with and without the subject, in upper and lower case, with other files between them."""
    for name in ("A1", "A2"):
        files = [f"{name}/flair.nii", f"{name}/{name}-T1_Gd.nii.gz", f"{name}/{name}_T1.nii.gz"]
        data.touch(*files, f"{name}/notes.txt", f"{name}/{name}_brain_mask.nii.gz", f"{name}/._{name}_T1.nii.gz")
        data.label(f"{name}/{name}_lesion_mask.nii.gz", 1)
    content = data.scan(testing="all")
    assert (content["name"], content["regions"]) == ("data", {"lesion": [1]})
    assert content["modalities"] == ["FLAIR", "T1ce", "T1"]
    assert [entry["subject"] for entry in content["testing"]] == ["A1", "A2"]
    assert content["testing"][1] == {"subject": "A2", "image": files, "label": "A2/A2_lesion_mask.nii.gz"}


def test_what_is_left_out_is_said_in_one_line_each(data, capsys):
    for number in range(6):
        data.touch(f"S{number}/T1.nii.gz", f"S{number}/other.nii.gz")
        if number % 3:
            data.touch(f"S{number}/T2.nii.gz")
    data.touch("S6/seg.nii.gz")
    content = data.scan()
    assert content["label_convention"] is None
    assert capsys.readouterr().out.splitlines() == [
        "skipped, neither modality nor label: S0/other.nii.gz, S1/other.nii.gz, S2/other.nii.gz and 3 more",
        "skipped, labels without an image: S6/seg.nii.gz",
        "left out, as not every subject has them: T2 (in 4 of 6 subjects); --modalities=T1,T2 takes them",
        "layout: folders (a folder for each subject), 6 subjects; modalities: T1",
        f"{data.folder}/list.json: 5 training, 1 validation, 0 testing",
    ]
    assert sorted(data.entries(modalities=("T2", "T1"))) == ["S1", "S2", "S4", "S5"]


@pytest.mark.parametrize(
    "modalities",
    ["T1=t1_to_mni,PD=other", {"T1": "t1_to_mni.nii.gz", "PD": "_other"}, {"t1": "T1_to_MNI", "PD": "OTHER"}],
)
def test_words_of_ones_own_name_the_files(data, modalities):
    """A whole name counts more than one that merely ends with the words."""
    for name in ("A1", "A2"):
        ends = ("t1_to_mni", "bad_t1_to_mni", "t1", "other", "another")
        data.touch(*[f"{name}/{name}_{words}.nii.gz" for words in ends])
    content = data.scan(modalities=modalities, testing="all")
    assert content["modalities"] == ["T1", "PD"]
    firsts = [entry["image"][0] for entry in content["testing"]]
    assert firsts == [f"{name}/{name}_t1_to_mni.nii.gz" for name in ("A1", "A2")]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["S1/S1_T1.nii.gz", "S1/t1w.nii"], "the T1 of S1: S1/S1_T1.nii.gz and S1/t1w.nii; .*--modalities=T1=WORDS"),
        (["S1/T1.nii.gz", "S1/seg.nii.gz", "S1/lesion.nii.gz"], "the label of S1: .*; expected one, or --label=WORDS"),
    ],
)
def test_two_files_for_one_place_are_named(data, files, message):
    data.touch(*files)
    with pytest.raises(InputError, match=message):
        data.scan()


def test_the_label_can_be_named(data):
    for name in ("A1", "A2"):
        data.touch(f"{name}/T1.nii.gz", f"{name}/seg.nii.gz")
        data.label(f"{name}/{name}_T1_rater1.nii.gz", 1)
    labels = [entry["label"] for entry in data.entries(label="rater1").values()]
    assert sorted(labels) == ["A1/A1_T1_rater1.nii.gz", "A2/A2_T1_rater1.nii.gz"]


def test_files_in_one_folder(data):
    """A label's name may have the modality that it was drawn on."""
    for name in ("a_1", "a_2", "a_3"):
        data.touch(f"{name}_T1w.nii.gz", f"{name}_T2_FLAIR.nii.gz")
    data.label("a_1_FLAIR_lesion.nii.gz", 1)
    data.label("a_2_seg.nii.gz", 1)
    found = data.entries()
    assert {name: entry.get("label") for name, entry in found.items()} == {
        "a_1": "a_1_FLAIR_lesion.nii.gz",
        "a_2": "a_2_seg.nii.gz",
        "a_3": None,
    }
    assert found["a_3"]["image"] == ["a_3_T2_FLAIR.nii.gz", "a_3_T1w.nii.gz"]
    assert data.scan(testing="all")["unlabelled"][0]["subject"] == "a_3"


def test_folders_of_images_and_labels(data):
    for number in range(3):
        data.touch(f"images/s{number}.nii.gz")
        data.label(f"labels/s{number}.nii.gz", 1)
    with pytest.raises(InputError, match=r"no image whose name ends with a modality.*expected --modalities=T1=WORDS"):
        data.scan()
    found = data.entries(modalities="T1=")
    assert found["s1"] == {"subject": "s1", "image": ["images/s1.nii.gz"], "label": "labels/s1.nii.gz"}


def test_visits_of_a_person_stay_together(data):
    for person in range(6):
        for visit in range(3):
            data.touch(f"P{person}_v{visit}_T1.nii.gz")
    for options in ({"validation": 2, "testing": 1}, {"folds": 3, "fold": 1}):
        content = data.scan(person="(P[0-9])_v[0-9]", **options)
        people = [{entry["subject"][:2] for entry in content[split]} for split in ("training", "validation", "testing")]
        assert sum(map(len, people)) == len(set().union(*people)) == 6
        assert len(people[1]) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modalities": "T1,t1"}, "expected each modality once"),
        ({"modalities": "T1,"}, "'' is no name; expected names such as T1,FLAIR, or the words"),
        ({"modalities": 5}, "--modalities=5: expected names such as T1,FLAIR"),
        ({"modalities": "T1=a,T2"}, "--modalities=T1=a,T2: expected names"),
        ({"modalities": "T1=a,T1=b"}, "--modalities=T1=a,T1=b: expected names"),
        ({"modalities": "T1=a,T2=A"}, "expected different words for each modality"),
        ({"modalities": {"T1": ["a"]}}, r"T1=\['a'\]: expected names"),
        ({"modalities": {"T1": "../a"}}, r"T1=\.\./a: expected names"),
        ({"modalities": "T1,ADC"}, "--modalities=T1,ADC: no ADC in .*; expected some of T1"),
        ({"label": "gold"}, "--label=gold: no label map in .* whose name ends so"),
        ({"label": "_"}, "--label=_: expected the words"),
        ({"layout": "tree"}, "layout=tree: expected one of nnunet, bids, folders, flat"),
        ({"layout": "flat"}, "no image whose name ends with a modality"),
        ({"layout": "nnunet"}, "dataset.json: No such file or directory; expected nnU-Net's dataset.json"),
        ({"missing": "drop"}, "missing=drop: expected one of exclude, keep$"),
        ({"person": "("}, r"--person=\(: no regular expression"),
        ({"person": "Q."}, "--person=Q.: no person in the subject S1; expected one"),
    ],
)
def test_bad_options_are_named(data, options, message):
    data.touch("S1/T1.nii.gz", "S2/T1.nii.gz")
    with pytest.raises(InputError, match=message) as error:
        data.scan(**options)
    assert one_line(error)
    assert not (data.folder / "list.json").exists()


def test_roots_of_no_known_layout_are_named(data):
    data.touch("a/b/c/T1.nii.gz", "d\ne/T1.dcm")
    with pytest.raises(InputError, match=r"no data set of a known layout; expected SUBJECT/.*; found a, d\\ne$"):
        data.scan()
    data.touch("S1/T1.nii.gz", "S2_T1.nii.gz")
    with pytest.raises(InputError, match="looks like folders and flat; expected --layout=folders or --layout=flat"):
        data.scan()
    assert list(data.entries(layout="flat")) == ["S2"]


def test_no_modality_in_common_is_an_error(data):
    data.touch("S1/T1.nii.gz", "S2/T2.nii.gz", "S3/T2.nii.gz")
    message = r"no modality that every subject has: T1 \(in 1 of 3 subjects\), T2 \(in 2 of 3.*--modalities=T2, say"
    with pytest.raises(InputError, match=message):
        data.scan()


def test_words_that_end_a_name_are_whole_words(data):
    data.touch("s1_reg.nii.gz", "s2_unreg.nii.gz", "s3-REG.nii")
    assert list(data.entries(modalities="T1=reg")) == ["s1", "s3"]


def test_subjects_that_lack_a_modality_are_kept_on_request(data, capsys):
    for number in range(6):
        data.touch(f"S{number}/T1.nii.gz", f"S{number}/PD.nii.gz")
        if number % 3:
            data.touch(f"S{number}/T2.nii.gz")
    data.touch("S6/PD.nii.gz")
    found = data.entries(missing="keep", modalities="T2,T1")
    assert found["S1"]["image"] == ["S1/T2.nii.gz", "S1/T1.nii.gz"]
    assert found["S3"]["image"] == [None, "S3/T1.nii.gz"]
    assert "S6" not in found
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if " lacks " in line] == [
        "kept: S0 lacks T2",
        "kept: S3 lacks T2",
        "left out: S6 lacks T2 and T1",
    ]
    assert data.scan(missing="keep")["modalities"] == ["T1", "T2", "PD"]
    assert len(data.entries(missing="keep")) == 7
    for missing, text, people in (("exclude", "with T1 and T2", 4), ("keep", "with T1 or T2", 6)):
        data.entries(missing=missing, modalities="T1,T2", consort=str(data.folder / "flow.json"))
        step = json.loads((data.folder / "flow.json").read_text())["steps"][1]
        assert (step["text"], step["people"]) == (text, people)
