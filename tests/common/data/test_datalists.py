import copy
import json

import pytest

from common.data import datalists
from common.errors import InputError

CONTENT = {
    "name": "toy",
    "modalities": ["FLAIR", "T1"],
    "label_convention": "atlas",
    "training": [
        {"subject": "a", "image": ["a/flair.nii.gz", "a/t1.nii.gz"], "label": "a/mask.nii.gz"},
        {"subject": "b", "image": ["b/flair.nii.gz", "b/t1.nii.gz"]},
    ],
    "validation": [{"subject": "c", "image": ["c/flair.nii.gz", "c/t1.nii.gz"]}],
    "testing": [],
}


@pytest.fixture
def content():
    return copy.deepcopy(CONTENT)


@pytest.fixture
def root(tmp_path):
    for file in ("a/flair", "a/t1", "a/mask", "b/flair", "b/t1", "c/flair", "c/t1"):
        path = tmp_path / "cohort" / f"{file}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "cohort"


@pytest.fixture
def datalist(tmp_path):
    path = tmp_path / "toy.json"
    path.write_text(json.dumps(CONTENT))
    return path


# Loading


def test_modalities_are_asked_for_by_name_all_splits_by_one_word_and_paths_are_absolute(datalist, root, monkeypatch):
    monkeypatch.chdir(root.parent)
    listed = datalists.Datalist(datalist, "cohort")
    assert listed.splits == {"a": "training", "b": "training", "c": "validation"}
    for modalities, files in ((["T1"], ["t1"]), (["T1", "FLAIR"], ["t1", "flair"]), (["T1", "T1"], ["t1", "t1"])):
        expected = [
            {"subject": subject, "image": [f"{root}/{subject}/{file}.nii.gz" for file in files]} for subject in "abc"
        ]
        assert listed.load("all", modalities) == expected


def test_only_the_files_that_are_asked_for_must_exist_and_missing_ones_are_counted(datalist, root):
    (root / "c/flair.nii.gz").unlink()
    listed = datalists.Datalist(datalist, root)
    assert listed.load("validation", ["T1"])
    with pytest.raises(InputError, match=r"c/flair.nii.gz: no such file, of subject c in .*; missing files: 1 of 2"):
        listed.load("validation")
    assert listed.load("validation", must_exist=False)[0]["image"][0] == f"{root}/c/flair.nii.gz"


def test_a_missing_modality_is_null_or_taken_for_missing(datalist, content, root):
    content["training"][1]["image"][0] = None
    datalist.write_text(json.dumps(content))
    listed = datalists.Datalist(datalist, root)
    for file in ("b/flair", "c/t1"):
        (root / f"{file}.nii.gz").unlink()  # nobody reads them
    whole, lacking = listed.load("training", missing=())
    assert whole["image"] == [f"{root}/a/flair.nii.gz", f"{root}/a/t1.nii.gz"]
    assert lacking["image"] == [None, f"{root}/b/t1.nii.gz"]
    assert listed.load("training", ["T1"])[1]["image"] == [f"{root}/b/t1.nii.gz"]
    assert listed.load("validation", missing=["T1"])[0]["image"] == [f"{root}/c/flair.nii.gz", None]
    with pytest.raises(InputError, match=r"subject b lacks FLAIR, T1; expected at least one of FLAIR, T1$"):
        listed.load("training", missing=["T1"])
    with pytest.raises(InputError, match=r"^datalist .*toy.json: subject b lacks FLAIR; expected all of FLAIR, T1$"):
        listed.load("training")


# Label conventions


def test_regions_of_ones_own_are_read_as_text(datalist, content):
    del content["label_convention"]
    for regions, message in (
        ({}, "expected either label_convention or regions"),
        ({"regions": {"a": [1, 2], "b": [2, 3]}}, r"toy.json: .*a=1\+2,b=2\+3: a and b overlap"),
    ):
        datalist.write_text(json.dumps(content | regions))
        with pytest.raises(InputError, match=message):
            datalists.read(datalist)
    custom = {"whole": [1, 2], "core": {"labels": [1], "colour": "#d1495b"}, "cavity": 7}
    datalist.write_text(json.dumps(content | {"regions": custom}))
    assert datalists.read(datalist)["label_convention"] == "whole=1+2,core=1:d1495b,cavity=7"
    assert datalists.convention_of(datalist, "atlas") == "whole=1+2,core=1:d1495b,cavity=7"
