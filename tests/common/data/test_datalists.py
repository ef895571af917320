import copy
import json
from itertools import pairwise

import pytest

from common.data import datalists
from common.errors import InputError
from tests.support import one_line

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


@pytest.fixture
def refused(datalist):
    """Return a check that `read` refuses a datalist's content or text in one line, and `write` refuses the content."""

    def check(content, message):
        datalist.write_text(content if isinstance(content, str) else json.dumps(content))
        before = datalist.read_bytes()
        writes = [] if isinstance(content, str) else [lambda: datalists.write(content, datalist)]
        for function in (lambda: datalists.read(datalist), *writes):
            with pytest.raises(InputError, match=message) as error:
                function()
            assert one_line(error).isprintable()
            assert len(str(error.value)) < 600
        assert datalist.read_bytes() == before

    return check


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


# What a file may hold


def test_writing_gives_what_reading_takes_and_leaves_nothing_else(tmp_path, content):
    content["name"] = "Köln 東京 😀"
    content["training"][1] |= {"subject": "é" * 100, "label": "b/mask..v2.nii.gz"}
    content["folds"] = {"fold": 0, "of": 5, "split": "validation", "source": "folds.json", "sha256": "0" * 64}
    content["unlabelled"] = [{"subject": "u", "image": ["u/flair.nii.gz", "u/t1.nii.gz"]}]
    part = datalists.subset(content, 1)
    path = tmp_path / "new" / "toy.json"
    datalists.write(part, path)
    first = path.read_bytes()
    datalists.write(part, path)
    assert datalists.read(path) == part
    assert list(part)[-4:] == ["training", "validation", "testing", "unlabelled"]
    assert path.read_bytes() == first
    assert list(path.parent.iterdir()) == [path]


# Label conventions


def test_regions_of_ones_own_are_read_as_text_and_written_as_they_were(datalist, content, refused):
    custom = {"whole": [1, 2], "core": {"labels": [1], "colour": "#d1495b"}, "cavity": 7}
    del content["label_convention"]
    refused(content, "expected either label_convention or regions")
    refused(content | {"regions": {"a": [1, 2], "b": [2, 3]}}, r"toy.json: regions=a=1\+2,b=2\+3: a and b overlap")
    datalist.write_text(json.dumps(content | {"regions": custom}))
    assert datalists.read(datalist)["label_convention"] == "whole=1+2,core=1:d1495b,cavity=7"
    assert datalists.convention_of(datalist, "atlas") == "whole=1+2,core=1:d1495b,cavity=7"
    datalists.write(datalists.read(datalist), datalist)
    written = json.loads(datalist.read_text())
    assert list(written["regions"].items()) == list((custom | {"cavity": [7]}).items())
    assert "label_convention" not in written


# Subsets


def _numbered(count):
    entries = [{"subject": f"s{n}", "image": [f"s{n}/a.nii.gz"]} for n in range(count)]
    held_out = [{"subject": f"h{n}", "image": [f"h{n}/a.nii.gz"]} for n in range(3)]
    return {"name": "toy", "modalities": ["T1"], "label_convention": None, "training": entries, "testing": held_out}


def _subjects(content):
    return {entry["subject"] for entry in content["training"]}


@pytest.mark.parametrize(("count", "fraction", "size"), [(1000, 0.4, 400), (3, 0.05, 1), (5, 1, 5)])
def test_a_subset_has_the_size_asked_for_and_leaves_the_rest(count, fraction, size):
    content = _numbered(count)
    part = datalists.subset(content, fraction, 3)
    assert content == _numbered(count)
    assert len(part["training"]) == size
    assert part["subset"] == {"fraction": fraction, "seed": 3, "nested": False, "of": count}
    assert [entry for entry in content["training"] if entry in part["training"]] == part["training"]
    assert part["testing"] == content["testing"]
    with pytest.raises(InputError, match=f"already a subset with {fraction:g} of the subjects"):
        datalists.subset(part, fraction)


def test_the_choice_is_the_one_that_sha256_gives_in_whatever_order_the_subjects_are():
    """From `for n in 0 1 2 3 4 5; do echo $(printf 7/0.5/s$n | sha256sum) s$n; done | sort`; nested with 7/s$n."""
    content = _numbered(6)
    for entries in (content["training"], content["training"][::-1]):
        turned = {**content, "training": entries}
        assert _subjects(datalists.subset(turned, 0.5, 7)) == {"s3", "s2", "s5"}
        assert _subjects(datalists.subset(turned, 0.5, 7, nested=True)) == {"s2", "s4", "s5"}


def test_nested_subsets_contain_one_another_and_others_do_not():
    content = _numbered(200)
    for nested in (True, False):
        chosen = [_subjects(datalists.subset(content, fraction, 1, nested)) for fraction in (0.05, 0.1, 0.2, 0.4)]
        assert all((small < large) == nested for small, large in pairwise(chosen))
