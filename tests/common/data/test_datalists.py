import copy
import json
import re
from itertools import pairwise

import pytest

from common.data import datalists
from common.data.regions import CONVENTIONS
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
    """Check that a datalist with this content, or text, is refused in one line; where it can be, also by `write`."""

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


def test_entries_hold_absolute_paths_in_the_order_of_the_datalist(datalist, root, monkeypatch):
    expected = [
        {"subject": "a", "image": [f"{root}/a/flair.nii.gz", f"{root}/a/t1.nii.gz"]},  # its mask is not asked for
        {"subject": "b", "image": [f"{root}/b/flair.nii.gz", f"{root}/b/t1.nii.gz"]},
    ]
    assert datalists.Datalist(datalist, root).load("training") == expected
    monkeypatch.chdir(root.parent)
    assert datalists.Datalist(datalist, "cohort").load("training") == expected


def test_labels_come_where_they_are_asked_for_and_each_subject_must_have_one(datalist, root, content):
    with pytest.raises(InputError, match="subject b of training has no label"):
        datalists.Datalist(datalist, root).load("all", label_convention="atlas")
    content["training"].pop()
    datalist.write_text(json.dumps(content))
    (entry,) = datalists.Datalist(datalist, root).load("training", label_convention="atlas")
    assert entry["label"] == f"{root}/a/mask.nii.gz"


@pytest.mark.parametrize(
    ("modalities", "files"),
    [(["T1"], ["t1"]), (["T1", "FLAIR"], ["t1", "flair"]), (["T1", "T1"], ["t1", "t1"])],
)
def test_modalities_are_asked_for_by_name(datalist, root, modalities, files):
    entries = datalists.Datalist(datalist, root).load("validation", modalities)
    assert entries == [{"subject": "c", "image": [f"{root}/c/{file}.nii.gz" for file in files]}]


def test_all_are_the_subjects_of_every_split(datalist, root):
    listed = datalists.Datalist(datalist, root)
    assert listed.splits == {"a": "training", "b": "training", "c": "validation"}
    assert [entry["subject"] for entry in listed.load("all", ["T1"])] == ["a", "b", "c"]


def test_only_the_files_that_are_asked_for_must_exist_and_missing_ones_are_counted(datalist, root):
    (root / "c/flair.nii.gz").unlink()
    listed = datalists.Datalist(datalist, root)
    assert listed.load("validation", ["T1"])
    with pytest.raises(InputError, match=r"c/flair.nii.gz: no such file, of subject c in .*; 1 of 2 files"):
        listed.load("validation")
    assert listed.load("validation", must_exist=False)[0]["image"][0] == f"{root}/c/flair.nii.gz"
    for file in ("a/mask", "a/t1", "b/flair", "b/t1"):
        (root / f"{file}.nii.gz").unlink()
    with pytest.raises(InputError, match=r"a/t1.nii.gz: no such file, of subject a in .*; 3 of 4 files"):
        listed.load("training")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "train"}, "split train: expected one of training, validation, testing"),
        ({"split": "testing"}, "split testing has no subject; splits that have: training, validation"),
        ({"modalities": ["T2"]}, "modality T2: not in .* which has FLAIR, T1"),
        ({"modalities": []}, r"modalities \[\]: expected at least one of FLAIR, T1"),
        ({"modalities": "T1"}, "modalities T1: expected a list of names"),
        ({"label_convention": "brats2021"}, "label_convention=brats2021: the labels of .*toy.json follow atlas"),
        ({"root": "/no/such"}, "root /no/such: no such folder"),
        ({"datalist": "/no/such.json"}, "datalist /no/such.json: No such file"),
    ],
)
def test_bad_requests_are_named(datalist, root, arguments, message):
    request = {"datalist": datalist, "split": "training", "root": root} | arguments
    with pytest.raises(InputError, match=message) as error:
        datalists.Datalist(request.pop("datalist"), request.pop("root")).load(**request)
    one_line(error)


def test_one_file_for_two_modalities_is_refused(datalist, root, content):
    content["training"][1]["image"] = ["b/t1.nii.gz", "b/t1.nii.gz"]
    datalist.write_text(json.dumps(content))
    with pytest.raises(InputError, match=f"subject b: {root}/b/t1.nii.gz is its FLAIR and its T1; expected two"):
        datalists.Datalist(datalist, root).load("training")
    assert datalists.Datalist(datalist, root).load("training", ["T1", "T1"])[1]["image"] == [f"{root}/b/t1.nii.gz"] * 2


def test_unlabelled_subjects_are_loaded_for_inference_but_not_for_supervision(datalist, content, root):
    content["unlabelled"] = content.pop("validation")
    datalists.write(content, datalist)
    assert datalists.Datalist(datalist, root).load("unlabelled")[0]["subject"] == "c"
    with pytest.raises(InputError, match="subject c of unlabelled has no label"):
        datalists.Datalist(datalist, root).load("unlabelled", label_convention="atlas")


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
    with pytest.raises(InputError, match=r"subject b lacks FLAIR, T1; expected one of FLAIR, T1$"):
        listed.load("training", missing=["T1"])
    with pytest.raises(InputError, match=r"^datalist .*toy.json: subject b lacks FLAIR; expected all of FLAIR, T1$"):
        listed.load("training")


# What a file may hold


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        (
            json.dumps(CONTENT)[:-1] + ', "training": []}',
            r'not JSON .the key "training" occurs twice.; expected a data',
        ),
        ("[]", "is not of type 'object'"),
        ("null", "is not of type 'object'"),
        # the reader, the schema and the message each have a depth that they cannot follow
        ("[" * 500 + "]" * 500, "^datalist "),
        ('{"name":' * 900 + "1" + "}" * 900, "^datalist "),
        ("[" * 100_000 + "]" * 100_000, "^datalist "),
    ],
    ids=range(8),
)
def test_what_is_no_datalist_is_named(refused, text, message):
    refused(text, message)


@pytest.mark.parametrize("character", ["\n", "\0", "\x7f", "\x85", "\u2028", "\u202e", "\u2066", "\ud800"])
@pytest.mark.parametrize("where", ["subject", "image", "label", "name", "modalities", "preparation"])
def test_text_that_no_line_can_hold_is_refused(refused, content, where, character):
    text = f"b{character}c"
    entry = content["training"][1]
    entry["label"] = "b.nii.gz"
    changed = entry if where in entry else content
    changed[where] = [text, "T1"] if where in ("image", "modalities") else text
    refused(content, re.escape(f"{json.dumps(text)}: expected text of one line"))


def _without(key):
    return lambda content: content.pop(key)


def _with(**changes):
    return lambda content: content.update(changes)


def _entry(**changes):
    return lambda content: content["training"][1].update(changes)


NAME = "expected a name that files can have"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without("modalities"), "'modalities' is a required property"),
        (_without("label_convention"), "label_convention and regions: neither; expected one of the two"),
        (_with(regions={"core": 1}), "label_convention and regions: both; expected one of the two"),
        (_with(trainning=[]), "trainning"),
        (_with(label_convention="brats"), "datalist .*toy.json: label_convention=brats: expected one of brats2021, "),
        (_with(modalities=["T1", "T1"]), r"\$.modalities .* non-unique"),
        (_entry(image=[]), r"\$.training\[1\].image"),
        (_entry(image=["b/t1.nii.gz"]), "subject b has 1 images; expected 2: FLAIR, T1"),
        (_entry(image=[None, None]), r"subject b has no image; expected one of FLAIR, T1$"),
        (_entry(lable="b/mask.nii.gz"), "lable"),
        (_entry(subject="a"), "subject a is in training and again in training"),
        (_entry(subject="c"), "subject c is in training and again in validation"),
        (_entry(subject="../b"), rf"subject \.\./b: {NAME}, without / and "),
        (_entry(subject="..\\b"), rf"subject \.\.\\b: {NAME}"),
        (_entry(subject="\u3000"), "subject"),
        (_entry(subject=" .. "), rf"subject  \.\. : {NAME}"),
        (_entry(subject="é" * 101), "of 200 bytes at most"),
        (_entry(label="/b/mask.nii.gz"), "subject b: path /b/mask.nii.gz"),
        (_entry(label="../mask.nii.gz"), "subject b: path ../mask.nii.gz"),
        (_entry(image=["b/../../x.nii.gz", "b/t1.nii.gz"]), r"subject b: path b/../../x.nii.gz"),
        (_entry(image=["b\\x.nii.gz", "b/t1.nii.gz"]), r"subject b: path b\\x.nii.gz"),
        (_entry(image=["a/" * 2500 + "x", "b/t1.nii.gz"]), f"path {'a/' * 40}... of 5001 characters; expected one of"),
        (_entry(image=["a/" + "ä" * 150, "b/t1.nii.gz"]), f"path a/{'ä' * 78}... of 152 characters; expected one of"),
    ],
)
def test_broken_datalists_are_neither_read_nor_written(refused, content, change, message):
    change(content)
    refused(content, message)


def test_writing_gives_what_reading_takes_and_leaves_nothing_else(tmp_path, content):
    content["name"] = "Köln 東京"
    content["preparation"] = "skull stripped"
    content["training"][1] |= {"subject": "é" * 100, "label": "b/mask..v2.nii.gz"}
    content["folds"] = {"fold": 0, "of": 5, "split": "validation", "source": "folds.json", "sha256": "0" * 64}
    content["unlabelled"] = [{"subject": "Ærø 😀", "image": ["u/flair.nii.gz", "u/t1.nii.gz"]}]
    part = datalists.subset(content, 1)
    path = tmp_path / "new" / "toy.json"
    datalists.write(part, path)
    first = path.read_bytes()
    datalists.write(part, path)
    assert datalists.read(path) == part
    assert list(part)[-4:] == ["training", "validation", "testing", "unlabelled"]
    assert path.read_bytes() == first
    assert list(path.parent.iterdir()) == [path]
    with pytest.raises(InputError, match=r"toy.json/x.json: .*expected a file that can be written"):
        datalists.write(part, path / "x.json")


# Label conventions

OWN = {"whole": [1, 2], "core": {"labels": [1], "colour": "#d1495b"}, "cavity": 7}


def test_regions_of_ones_own_are_read_as_text_and_written_as_they_were(datalist, content):
    del content["label_convention"]
    datalist.write_text(json.dumps(content | {"regions": OWN}))
    assert datalists.read(datalist)["label_convention"] == "whole=1+2,core=1:d1495b,cavity=7"
    assert "regions" not in datalists.read(datalist)
    assert datalists.convention_of(datalist, "atlas") == "whole=1+2,core=1:d1495b,cavity=7"
    datalists.write(datalists.read(datalist), datalist)
    written = json.loads(datalist.read_text())
    assert written["regions"] == OWN | {"cavity": [7]}
    assert list(written["regions"]) == list(OWN)
    assert "label_convention" not in written


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        ({}, r"\$.regions"),
        ("core=1", r"\$.regions"),
        ({"core": 0}, r"\$.regions"),
        ({"core": []}, r"\$.regions"),
        ({"core": {"labels": 1, "color": "#d1495b"}}, r"\$.regions"),
        ({"a core": 1}, r"\$.regions"),
        ({"core": [1, 2], "rim": [2, 3]}, r"toy.json: regions=core=1\+2,rim=2\+3: core and rim overlap"),
    ],
)
def test_regions_that_no_label_map_can_hold_are_refused(refused, datalist, content, regions, message):
    del content["label_convention"]
    refused(content | {"regions": regions}, message)
    datalists.convention_of(datalist, "atlas")  # `read` is what refuses


@pytest.mark.parametrize("stated", ["core=1", {"core": 1}])
def test_regions_of_ones_own_have_their_own_key(datalist, content, stated):
    datalist.write_text(json.dumps(content | {"label_convention": stated}))
    with pytest.raises(InputError, match="label_convention"):
        datalists.read(datalist)
    assert datalists.convention_of(datalist, "atlas") == "atlas"


@pytest.mark.parametrize("text", [None, "[", "[]", "{}", '{"label_convention": null}', '{"regions": 3}'])
def test_without_a_convention_there_is_the_default(tmp_path, text):
    if text is not None:
        (tmp_path / "data.json").write_text(text)
    assert datalists.convention_of(tmp_path / "data.json", "atlas") == "atlas"


@pytest.mark.parametrize("convention", [*CONVENTIONS, None])
def test_every_label_convention_is_known(content, convention):
    datalists.check(content | {"label_convention": convention}, "toy.json")


# Subsets


def _numbered(count):
    entries = [{"subject": f"s{n}", "image": [f"s{n}/a.nii.gz"]} for n in range(count)]
    held_out = [{"subject": f"h{n}", "image": [f"h{n}/a.nii.gz"]} for n in range(3)]
    return {"name": "toy", "modalities": ["T1"], "label_convention": None, "training": entries, "testing": held_out}


def _subjects(content):
    return {entry["subject"] for entry in content["training"]}


@pytest.mark.parametrize(("count", "fraction", "size"), [(1000, 0.4, 400), (3, 0.05, 1), (8, 0.2, 2), (5, 1, 5)])
def test_a_subset_has_the_size_asked_for_and_leaves_the_rest(count, fraction, size):
    content = _numbered(count)
    before = copy.deepcopy(content)
    part = datalists.subset(content, fraction, 3)
    assert content == before
    assert len(part["training"]) == size
    assert part["subset"] == {"fraction": fraction, "seed": 3, "nested": False, "of": count}
    assert [entry for entry in content["training"] if entry in part["training"]] == part["training"]
    assert {**part, "training": content["training"]} == {**content, "subset": part["subset"]}


def test_the_choice_is_the_one_that_sha256_gives_in_whatever_order_the_subjects_are():
    """From `for n in 0 1 2 3 4 5; do echo $(printf 7/0.5/s$n | sha256sum) s$n; done | sort`, and so for 7/s$n."""
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fraction": 0}, "fraction=0: expected a number above 0, up to 1"),
        ({"fraction": 1.01}, "fraction=1.01: expected"),
        ({"fraction": True}, "fraction=True: expected"),
        ({"fraction": float("nan")}, "fraction=nan: expected"),
        ({"fraction": 0.1, "seed": -1}, "seed=-1: expected a whole number from 0"),
        ({"fraction": 0.1, "content": {"training": []}}, "it has no subject for training"),
        ({"fraction": 0.1, "content": datalists.subset(_numbered(9), 0.4)}, "a subset of 0.4 of the subjects already"),
    ],
)
def test_bad_subsets_are_named(arguments, message):
    with pytest.raises(InputError, match=message):
        datalists.subset(**{"content": _numbered(9)} | arguments)


def test_modalities_are_restricted_in_every_split_in_the_order_asked_for(content):
    content["unlabelled"] = [{"subject": "u", "image": ["u/flair.nii.gz", "u/t1.nii.gz"]}]
    before = copy.deepcopy(content)
    turned = datalists.restrict(content, ["T1", "FLAIR"])
    assert turned["modalities"] == ["T1", "FLAIR"]
    assert turned["unlabelled"] == [{"subject": "u", "image": ["u/t1.nii.gz", "u/flair.nii.gz"]}]
    single = datalists.restrict(content, ["T1"])
    images = [entry["image"] for split in datalists.SPLITS for entry in single[split]]
    assert images == [[f"{subject}/t1.nii.gz"] for subject in "abcu"]
    assert single["training"][0]["label"] == "a/mask.nii.gz"
    assert content == before
    datalists.check(single, "single.json")


@pytest.mark.parametrize(
    ("modalities", "message"),
    [
        (["T2"], "modality T2: not in the datalist, which has FLAIR, T1"),
        ([], "expected at least one of FLAIR, T1"),
        (["T1", "T1"], "--modalities=T1,T1: a datalist names each once"),
    ],
)
def test_bad_restrictions_are_named(modalities, message):
    with pytest.raises(InputError, match=message):
        datalists.restrict(CONTENT, modalities)
