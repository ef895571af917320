"""Data sets without a standard, by the command."""

import json

import pytest

from common.data.datalists import Datalist
from common.errors import InputError
from scripts.datalists import __main__ as commands


@pytest.mark.parametrize("modalities", ["T1=t1_to_mni,PD=other", ["t1=T1_to_MNI.nii.gz", "PD=_other"]])
def test_words_of_ones_own_name_the_files(data, modalities):
    """A whole name counts more than one that merely ends with the words."""
    for name in ("A1", "A2"):
        ends = ("t1_to_mni", "bad_t1_to_mni", "t1", "other", "another")
        data.touch(*[f"{name}/{name}_{words}.nii.gz" for words in ends])
    content = data.scan(modalities=modalities, testing="all")
    assert content["modalities"] == ["T1", "PD"]
    firsts = [entry["image"][0] for entry in content["testing"]]
    assert firsts == [f"{name}/{name}_t1_to_mni.nii.gz" for name in ("A1", "A2")]


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


def test_visits_of_a_person_stay_together(data):
    for person in range(6):
        for visit in range(3):
            data.touch(f"P{person}_v{visit}_T1.nii.gz")
    person = "(P[0-9])_v[0-9]"
    whole = data.scan(person=person, validation=2)
    contents = [whole]
    assert "person" not in whole["training"][0], "the default finds the same people"
    for name, options in (("kept", {}), ("again", {"person": person})):
        path = data.folder / f"{name}.json"
        commands.fold(str(data.folder / "list.json"), str(path), folds=3, fold=1, **options)
        contents.append(json.loads(path.read_text()))
        assert Datalist(path, "").leaked == []
    moved = whole | {"validation": whole["validation"] + whole["training"][:1], "training": whole["training"][1:]}
    (data.folder / "moved.json").write_text(json.dumps(moved))
    assert Datalist(data.folder / "moved.json", "").leaked == [whole["training"][0]["subject"][:2]]
    for content in contents:
        people = [{entry["subject"][:2] for entry in content[split]} for split in ("training", "validation")]
        assert list(map(len, people)) == [4, 2]
        assert len(set().union(*people)) == 6


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
    told = [line for line in lines if " lacks " in line]
    assert told == ["kept: S0 lacks T2", "kept: S3 lacks T2", "left out: S6 lacks T2, T1"]
    assert data.scan(missing="keep")["modalities"] == ["T1", "T2", "PD"]


def test_files_in_different_folders_are_different_visits_of_a_person(data, capsys):
    for number in (1, 2, 3):
        data.touch(f"P{number}/baseline/t1.nii.gz", f"P{number}/late/flair.nii.gz")
        data.label(f"P{number}/late/masks/seg.nii.gz", 1)
    found = data.entries(modalities="T1,FLAIR", missing="keep")
    assert found["P1_baseline"] == {"subject": "P1_baseline", "image": ["P1/baseline/t1.nii.gz", None]}
    late = {"image": [None, "P1/late/flair.nii.gz"], "label": "P1/late/masks/seg.nii.gz"}
    assert found["P1_ses-late"] == {"subject": "P1_ses-late"} | late
    assert "people: 3 in 6 subjects, such as P1 (P1_baseline, P1_ses-late)\n" in capsys.readouterr().out


def test_people_of_two_data_sets_stay_two(data):
    data.touch("one/P1_T1.nii.gz", "two/P1_FLAIR.nii.gz", "two/P1_T1.nii.gz")
    data.label("one/P1_seg.nii.gz", 1)
    found = data.entries(layout="flat", modalities="T1,FLAIR", missing="keep")
    assert {name: entry["image"] for name, entry in found.items()} == {
        "one_P1": ["one/P1_T1.nii.gz", None],
        "two_P1": ["two/P1_T1.nii.gz", "two/P1_FLAIR.nii.gz"],
    }
    assert found["one_P1"]["label"] == "one/P1_seg.nii.gz"


def test_folders_that_the_words_name_are_no_visits(data):
    for number in (1, 2, 3):
        data.touch(*[f"{number}/{file}.nii.gz" for file in ("pre/T1", "pre/FLAIR", "orig/T1", "orig/FLAIR")])
        data.label(f"{number}/wmh.nii.gz", 1)
    found = data.entries(modalities="T1=pre/T1,FLAIR=pre/FLAIR")
    assert found["1"] == {"subject": "1", "image": ["1/pre/T1.nii.gz", "1/pre/FLAIR.nii.gz"], "label": "1/wmh.nii.gz"}


def test_each_scan_is_a_subject_on_request(data):
    for number in (1, 2, 3):
        data.touch(
            f"sub_{number}/ses_1/t1.nii.gz", f"sub_{number}/ses_1/flair.nii.gz", f"sub_{number}/ses_2/dwi_x.nii.gz"
        )
    content = data.scan(modalities="each", validation=1)
    assert (content["modalities"], len(content["training"]), len(content["validation"])) == (["MR"], 6, 3)
    assert len({entry["subject"][:5] for entry in content["validation"]}) == 1


def test_post_beside_t1_is_a_question_that_names_the_file(data):
    data.touch(*[f"P{number}/{name}.nii.gz" for number in (1, 2) for name in ("post_T1", "FLAIR")])
    with pytest.raises(InputError, match=r"P1/post_T1.nii.gz: a T1 after contrast agent \(T1ce\), or a plain T1 after"):
        data.scan()
    assert data.entries(modalities="FLAIR")["P1"]["image"] == ["P1/FLAIR.nii.gz"]
    assert data.entries(modalities="T1ce=post_T1")["P1"]["image"] == ["P1/post_T1.nii.gz"]


@pytest.mark.parametrize(
    "place",
    [
        "P{n}/P{n}_{visit}_{kind}",
        "P{n}/{visit}_{kind}",
        "P{n}/scans_{visit}/{kind}",
        "{visit}_{kind}/P{n}",
        "images_{visit}/P{n}_{kind}",
    ],
)
def test_visits_in_names_of_files_and_of_folders_for_all_stay_apart(data, place):
    """The FLAIR image and the label map of the second visit are not given to the T1 of the first."""
    for number in (1, 2, 3):
        data.touch(place.format(n=number, visit="v1", kind="T1") + ".nii.gz")
        data.touch(place.format(n=number, visit="v2", kind="FLAIR") + ".nii.gz")
        data.label(place.format(n=number, visit="v2", kind="mask") + ".nii.gz", 1)
    found = data.entries(modalities="T1,FLAIR", missing="keep")
    assert sorted((entry["image"].count(None), "label" in entry) for entry in found.values()) == [
        *[(1, False)] * 3,
        *[(1, True)] * 3,
    ]
    assert {"label" in entry for entry in found.values() if entry["image"][1]} == {True}
