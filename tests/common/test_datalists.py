import copy
import json
import time

import pytest

from common import datalists
from common.preflight import InputError
from common.transforms import CONVENTIONS

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


def test_entries_hold_absolute_paths_in_the_order_of_the_datalist(datalist, root):
    assert datalists.load(datalist, "training", root) == [
        {
            "subject": "a",
            "image": [f"{root}/a/flair.nii.gz", f"{root}/a/t1.nii.gz"],
            "label": f"{root}/a/mask.nii.gz",
        },
        {"subject": "b", "image": [f"{root}/b/flair.nii.gz", f"{root}/b/t1.nii.gz"]},
    ]


@pytest.mark.parametrize(
    ("modalities", "files"),
    [(["T1"], ["t1"]), (["T1", "FLAIR"], ["t1", "flair"]), (["T1", "T1"], ["t1", "t1"])],
)
def test_modalities_are_asked_for_by_name(datalist, root, modalities, files):
    entries = datalists.load(datalist, "validation", root, modalities)
    assert entries == [{"subject": "c", "image": [f"{root}/c/{file}.nii.gz" for file in files]}]


def test_a_relative_root_gives_absolute_paths(datalist, root, monkeypatch):
    monkeypatch.chdir(root.parent)
    assert datalists.load(datalist, "validation", "cohort")[0]["image"][0] == f"{root}/c/flair.nii.gz"


def test_only_the_files_that_are_asked_for_must_exist(datalist, root):
    (root / "c/flair.nii.gz").unlink()
    assert datalists.load(datalist, "validation", root, ["T1"])
    with pytest.raises(InputError, match=r"c/flair.nii.gz: no such file, of subject c in .*; 1 of 2 files"):
        datalists.load(datalist, "validation", root)


def test_missing_files_are_counted_and_the_first_is_named(datalist, root):
    for file in ("a/mask", "b/flair", "b/t1"):
        (root / f"{file}.nii.gz").unlink()
    with pytest.raises(InputError, match=r"a/mask.nii.gz: no such file, of subject a in .*; 3 of 5 files"):
        datalists.load(datalist, "training", root)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "train"}, "split train: expected one of training, validation, testing"),
        ({"split": "testing"}, "split testing has no subject; splits that have: training, validation"),
        ({"modalities": ["T2"]}, "modality T2: not in .* which has FLAIR, T1"),
        ({"modalities": []}, r"modalities \[\]: expected at least one of FLAIR, T1"),
        ({"modalities": "T1"}, "modalities T1: expected a list of names"),
        ({"root": "/no/such"}, "root /no/such: no such folder"),
        ({"datalist": "/no/such.json"}, "datalist /no/such.json: No such file"),
    ],
)
def test_bad_requests_are_named(datalist, root, arguments, message):
    with pytest.raises(InputError, match=message) as error:
        datalists.load(**{"datalist": datalist, "split": "training", "root": root} | arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "\xff"])
def test_what_is_not_json_is_named(datalist, text):
    datalist.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match="not JSON"):
        datalists.read(datalist)


def _without(key):
    return lambda content: content.pop(key)


def _entry(**changes):
    return lambda content: content["training"][1].update(changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without("modalities"), "'modalities' is a required property"),
        (_without("label_convention"), "'label_convention' is a required property"),
        (lambda content: content.update(trainning=[]), "trainning"),
        (lambda content: content.update(label_convention="brats"), r"\$.label_convention = \"brats\""),
        (lambda content: content.update(modalities=["T1", "T1"]), r"\$.modalities .* non-unique"),
        (_entry(image=[]), r"\$.training\[1\].image"),
        (_entry(image=["b/t1.nii.gz"]), "subject b has 1 images; expected 2: FLAIR, T1"),
        (_entry(lable="b/mask.nii.gz"), "lable"),
        (_entry(subject="a"), "subject a is in training and again in training"),
        (_entry(subject="c"), "subject c is in training and again in validation"),
        (_entry(label="/b/mask.nii.gz"), "subject b: path /b/mask.nii.gz"),
        (_entry(label="../mask.nii.gz"), "subject b: path ../mask.nii.gz"),
        (_entry(image=["b/../../x.nii.gz", "b/t1.nii.gz"]), r"subject b: path b/../../x.nii.gz"),
        (_entry(image=["b\\x.nii.gz", "b/t1.nii.gz"]), r"subject b: path b\\x.nii.gz"),
    ],
)
def test_broken_datalists_are_neither_read_nor_written(datalist, content, change, message):
    change(content)
    datalist.write_text(json.dumps(content))
    with pytest.raises(InputError, match=message) as error:
        datalists.read(datalist)
    assert "\n" not in str(error.value)
    before = datalist.read_bytes()
    with pytest.raises(InputError, match=message):
        datalists.write(content, datalist)
    assert datalist.read_bytes() == before


@pytest.mark.parametrize("value", [[], 3, None])
def test_json_of_another_kind_is_refused(datalist, value):
    datalist.write_text(json.dumps(value))
    with pytest.raises(InputError, match="is not of type 'object'"):
        datalists.read(datalist)


def test_names_may_hold_two_dots_that_are_no_parent_folder(datalist, content):
    content["training"][1]["label"] = "b/mask..v2.nii.gz"
    datalists.write(content, datalist)


def test_writing_gives_what_reading_takes_and_leaves_nothing_else(tmp_path, content):
    path = tmp_path / "new" / "toy.json"
    datalists.write(content, path)
    first = path.read_bytes()
    datalists.write(content, path)
    assert datalists.read(path) == CONTENT
    assert path.read_bytes() == first
    assert list(path.parent.iterdir()) == [path]


def test_an_unwritable_place_is_named(tmp_path, content):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/toy.json: .*expected a file that can be written"):
        datalists.write(content, tmp_path / "file" / "toy.json")


def test_the_schema_knows_the_label_conventions_of_the_transforms():
    schema = json.loads(datalists.SCHEMA.read_text())
    assert schema["properties"]["label_convention"]["enum"] == [*CONVENTIONS, None]


def test_a_cohort_of_the_size_of_uk_biobank_is_read_in_seconds(tmp_path, content):
    content["training"] = [
        {"subject": str(index), "image": [f"{index}/flair.nii.gz", f"{index}/t1.nii.gz"]} for index in range(41_400)
    ]
    path = tmp_path / "large.json"
    path.write_text(json.dumps(content))
    start = time.process_time()
    datalists.read(path)
    assert time.process_time() - start < 15  # s; 1.4 s where this was written
