import copy
import json
import re
import time
from itertools import pairwise

import pytest

from common.data import datalists
from common.data.regions import CONVENTIONS
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


def test_entries_hold_absolute_paths_in_the_order_of_the_datalist(datalist, root):
    assert datalists.Datalist(datalist, root).load("training") == [
        {"subject": "a", "image": [f"{root}/a/flair.nii.gz", f"{root}/a/t1.nii.gz"]},  # its mask is not asked for
        {"subject": "b", "image": [f"{root}/b/flair.nii.gz", f"{root}/b/t1.nii.gz"]},
    ]


def test_labels_come_where_they_are_asked_for(datalist, root):
    content = json.loads(datalist.read_text())
    content["training"].pop()
    datalist.write_text(json.dumps(content))
    (entry,) = datalists.Datalist(datalist, root).load("training", label_convention=content["label_convention"])
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
    entries = listed.load("all", ["T1"])
    content = json.loads(datalist.read_text())
    subjects = {entry["subject"]: split for split in datalists.SPLITS for entry in content.get(split, [])}
    assert [entry["subject"] for entry in entries] == list(subjects)
    assert entries[-1:] == listed.load(list(subjects.values())[-1], ["T1"])[-1:]
    assert listed.splits == subjects


def test_a_label_that_one_of_all_subjects_lacks_is_named_with_its_split(datalist, root):
    convention = json.loads(datalist.read_text())["label_convention"]
    with pytest.raises(InputError, match="subject b of training has no label"):
        datalists.Datalist(datalist, root).load("all", label_convention=convention)


def test_a_relative_root_gives_absolute_paths(datalist, root, monkeypatch):
    monkeypatch.chdir(root.parent)
    assert datalists.Datalist(datalist, "cohort").load("validation")[0]["image"][0] == f"{root}/c/flair.nii.gz"


def test_only_the_files_that_are_asked_for_must_exist(datalist, root):
    (root / "c/flair.nii.gz").unlink()
    assert datalists.Datalist(datalist, root).load("validation", ["T1"])
    with pytest.raises(InputError, match=r"c/flair.nii.gz: no such file, of subject c in .*; 1 of 2 files"):
        datalists.Datalist(datalist, root).load("validation")


def test_missing_files_are_counted_and_the_first_is_named(datalist, root):
    for file in ("a/mask", "a/t1", "b/flair", "b/t1"):
        (root / f"{file}.nii.gz").unlink()
    with pytest.raises(InputError, match=r"a/t1.nii.gz: no such file, of subject a in .*; 3 of 4 files"):
        datalists.Datalist(datalist, root).load("training")


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
    request = {"datalist": datalist, "split": "training", "root": root} | arguments
    with pytest.raises(InputError, match=message) as error:
        datalists.Datalist(request.pop("datalist"), request.pop("root")).load(**request)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "\xff"])
def test_what_is_not_json_is_named(datalist, text):
    datalist.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match="not JSON"):
        datalists.read(datalist)


def test_a_key_that_occurs_twice_is_named(datalist, content):
    datalist.write_text(json.dumps(content)[:-1] + ', "training": []}')
    with pytest.raises(InputError, match=r'not JSON .the key "training" occurs twice.; expected a datalist'):
        datalists.read(datalist)


@pytest.mark.parametrize("path", ["a/" * 2500 + "t1.nii.gz", "a/" + "ä" * 150 + ".nii.gz"])
def test_a_path_that_no_file_can_have_is_refused_in_a_short_line(datalist, content, path):
    content["training"][1]["image"][1] = path
    datalist.write_text(json.dumps(content))
    with pytest.raises(InputError, match=f"path {path[:80]}... of {len(path)} characters; expected one of") as error:
        datalists.read(datalist)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("subject", ["", " ", "\u3000", " .. "])
def test_a_blank_subject_is_refused(datalist, content, subject):
    content["training"][1]["subject"] = subject
    datalist.write_text(json.dumps(content))
    with pytest.raises(InputError, match="subject"):
        datalists.read(datalist)


def test_one_file_for_two_modalities_is_refused(datalist, root, content):
    content["training"][1]["image"] = ["b/t1.nii.gz", "b/t1.nii.gz"]
    datalist.write_text(json.dumps(content))
    with pytest.raises(InputError, match=f"subject b: {root}/b/t1.nii.gz is its FLAIR and its T1; expected two"):
        datalists.Datalist(datalist, root).load("training")
    assert datalists.Datalist(datalist, root).load("training", ["T1", "T1"])[1]["image"] == [f"{root}/b/t1.nii.gz"] * 2


@pytest.mark.parametrize("depth", [500, 900, 100_000])
def test_what_is_nested_too_deeply_is_refused_in_one_line(datalist, depth):
    """The reader, the schema and the message each have a depth that they cannot follow."""
    for text in ("[" * depth + "]" * depth, '{"name":' * depth + "1" + "}" * depth):
        datalist.write_text(text)
        with pytest.raises(InputError, match=f"^datalist {datalist}: ") as error:
            datalists.read(datalist)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("character", ["\n", "\r", "\0", "\x7f", "\x85", "\u2028", "\ud800"])
@pytest.mark.parametrize("where", ["subject", "image", "label", "name", "modalities", "preparation"])
def test_text_that_no_line_can_hold_is_refused(datalist, content, where, character):
    text = f"b{character}c"
    entry = content["training"][1]
    entry["label"] = "b.nii.gz"
    changed = entry if where in entry else content
    changed[where] = [text, "T1"] if where in ("image", "modalities") else text
    datalist.write_text(json.dumps(content))
    message = re.escape(f"{json.dumps(text)}: expected text of one line")
    with pytest.raises(InputError, match=message) as error:
        datalists.read(datalist)
    assert str(error.value).isprintable()
    with pytest.raises(InputError, match=message):
        datalists.write(content, datalist)


def test_text_of_other_scripts_is_taken(datalist, content):
    content["name"] = "Köln 東京"
    content["training"][1]["subject"] = "Ærø 😀"
    datalists.write(content, datalist)
    assert datalists.read(datalist) == content


def _without(key):
    return lambda content: content.pop(key)


def _entry(**changes):
    return lambda content: content["training"][1].update(changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without("modalities"), "'modalities' is a required property"),
        (_without("label_convention"), "label_convention and regions: neither; expected one of the two"),
        (
            lambda content: content.update(regions={"core": 1}),
            "label_convention and regions: both; expected one of the two",
        ),
        (lambda content: content.update(trainning=[]), "trainning"),
        (
            lambda content: content.update(label_convention="brats"),
            "label_convention=brats: expected one of brats2021, ",
        ),
        (lambda content: content.update(modalities=["T1", "T1"]), r"\$.modalities .* non-unique"),
        (_entry(image=[]), r"\$.training\[1\].image"),
        (_entry(image=["b/t1.nii.gz"]), "subject b has 1 images; expected 2: FLAIR, T1"),
        (_entry(lable="b/mask.nii.gz"), "lable"),
        (_entry(subject="a"), "subject a is in training and again in training"),
        (_entry(subject="c"), "subject c is in training and again in validation"),
        (_entry(subject="../b"), r"subject \.\./b: expected a name that files can have, without / and "),
        (_entry(subject="..\\b"), r"subject \.\.\\b: expected a name that files can have"),
        (_entry(subject="é" * 101), "of 200 bytes at most"),
        (_entry(subject=".."), r"subject \.\.: expected a name that files can have"),
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
        (None, r"\$.regions"),
        ("core=1", r"\$.regions"),
        ({"core": 0}, r"\$.regions"),
        ({"core": []}, r"\$.regions"),
        ({"core": {"labels": 1, "color": "#d1495b"}}, r"\$.regions"),
        ({"a core": 1}, r"\$.regions"),
        ({"core": [1, 2], "rim": [2, 3]}, r"toy.json: regions=core=1\+2,rim=2\+3: core and rim overlap"),
    ],
)
def test_regions_that_no_label_map_can_hold_are_refused(datalist, content, regions, message):
    del content["label_convention"]
    datalist.write_text(json.dumps(content | {"regions": regions}))
    with pytest.raises(InputError, match=message) as error:
        datalists.read(datalist)
    assert "\n" not in str(error.value)
    datalists.convention_of(datalist, "atlas")  # `read` is what refuses


@pytest.mark.parametrize("stated", ["core=1", {"core": 1}])
def test_regions_of_ones_own_have_their_own_key(datalist, content, stated):
    datalist.write_text(json.dumps(content | {"label_convention": stated}))
    with pytest.raises(InputError, match="label_convention") as error:
        datalists.read(datalist)
    assert "\n" not in str(error.value)
    assert datalists.convention_of(datalist, "atlas") == "atlas"


def test_a_convention_that_cannot_be_written_is_named(tmp_path, content):
    with pytest.raises(InputError, match=r"datalist .*toy.json: label_convention=brats: expected one of brats2021, "):
        datalists.write(content | {"label_convention": "brats"}, tmp_path / "toy.json")
    assert not (tmp_path / "toy.json").exists()


@pytest.mark.parametrize(
    "text", [None, "", "[", "[]", "{}", '{"label_convention": null}', '{"label_convention": 3}', '{"regions": 3}']
)
def test_without_a_convention_there_is_the_default(tmp_path, text):
    if text is not None:
        (tmp_path / "data.json").write_text(text)
    assert datalists.convention_of(tmp_path / "data.json", "atlas") == "atlas"


@pytest.mark.parametrize("convention", [*CONVENTIONS, None])
def test_every_label_convention_is_known(content, convention):
    datalists.check(content | {"label_convention": convention}, "toy.json")


def test_another_label_convention_is_refused(content):
    with pytest.raises(InputError, match=r"datalist toy\.json: label_convention=brats: expected one of brats2021, "):
        datalists.check(content | {"label_convention": "brats"}, "toy.json")


def test_a_cohort_of_the_size_of_uk_biobank_is_read_in_seconds(tmp_path, content):
    content["training"] = [
        {"subject": str(index), "image": [f"{index}/flair.nii.gz", f"{index}/t1.nii.gz"]} for index in range(41_400)
    ]
    path = tmp_path / "large.json"
    path.write_text(json.dumps(content))
    start = time.process_time()
    datalists.read(path)
    assert time.process_time() - start < 15  # s; 1.4 s where this was written


def _numbered(count):
    entries = [{"subject": f"s{n}", "image": [f"s{n}/a.nii.gz"]} for n in range(count)]
    held_out = [{"subject": f"h{n}", "image": [f"h{n}/a.nii.gz"]} for n in range(3)]
    return {"name": "toy", "modalities": ["T1"], "label_convention": None, "training": entries, "testing": held_out}


def _subjects(content):
    return {entry["subject"] for entry in content["training"]}


@pytest.mark.parametrize(
    ("count", "fraction", "size"), [(40, 0.05, 2), (1000, 0.4, 400), (3, 0.05, 1), (7, 0.2, 1), (8, 0.2, 2), (5, 1, 5)]
)
def test_a_subset_has_the_size_asked_for_and_leaves_the_rest(count, fraction, size):
    content = _numbered(count)
    before = copy.deepcopy(content)
    part = datalists.subset(content, fraction, 3)
    assert content == before
    assert len(part["training"]) == size
    assert part["subset"] == {"fraction": fraction, "seed": 3, "nested": False, "of": count}
    assert [entry for entry in content["training"] if entry in part["training"]] == part["training"]
    assert {**part, "training": content["training"]} == {**content, "subset": part["subset"]}


def test_the_choice_is_the_one_that_sha256_gives():
    """From `for n in 0 1 2 3 4 5; do echo $(printf 7/0.5/s$n | sha256sum) s$n; done | sort`, and so for 7/s$n."""
    assert _subjects(datalists.subset(_numbered(6), 0.5, 7)) == {"s3", "s2", "s5"}
    assert _subjects(datalists.subset(_numbered(6), 0.5, 7, nested=True)) == {"s2", "s4", "s5"}


def test_nested_subsets_contain_one_another_and_others_do_not():
    content = _numbered(200)
    fractions = (0.05, 0.1, 0.2, 0.4)
    for seed in range(5):
        nested = [_subjects(datalists.subset(content, fraction, seed, nested=True)) for fraction in fractions]
        assert all(small < large for small, large in pairwise(nested))
        free = [_subjects(datalists.subset(content, fraction, seed)) for fraction in fractions]
        assert not any(small < large for small, large in pairwise(free))


def test_seeds_give_subsets_of_their_own_in_which_each_subject_is_as_likely():
    content = _numbered(50)
    drawn = [_subjects(datalists.subset(content, 0.2, seed)) for seed in range(500)]
    assert len(set(map(frozenset, drawn))) == 500
    times = [sum(f"s{n}" in members for members in drawn) for n in range(50)]
    assert sum(times) == 500 * 10
    assert all(60 < count < 140 for count in times), "100 times on average, 9 the standard deviation"


def test_the_order_of_the_subjects_does_not_matter():
    content = _numbered(30)
    turned = {**content, "training": content["training"][::-1]}
    assert _subjects(datalists.subset(content, 0.2)) == _subjects(datalists.subset(turned, 0.2))


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


def test_modalities_are_restricted_in_every_split_in_the_order_asked_for(tmp_path):
    content = copy.deepcopy(CONTENT)
    content["unlabelled"] = [{"subject": "u", "image": ["u/flair.nii.gz", "u/t1.nii.gz"]}]
    turned = datalists.restrict(content, ["T1", "FLAIR"])
    assert turned["modalities"] == ["T1", "FLAIR"]
    assert turned["unlabelled"] == [{"subject": "u", "image": ["u/t1.nii.gz", "u/flair.nii.gz"]}]
    single = datalists.restrict(content, ["T1"])
    assert [entry["image"] for split in datalists.SPLITS for entry in single[split]] == [
        ["a/t1.nii.gz"],
        ["b/t1.nii.gz"],
        ["c/t1.nii.gz"],
        ["u/t1.nii.gz"],
    ]
    assert single["training"][0]["label"] == "a/mask.nii.gz"
    assert content["modalities"] == ["FLAIR", "T1"]
    datalists.write(single, tmp_path / "single.json")


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


def test_preparation_folds_and_subset_are_kept(tmp_path, content):
    content["preparation"] = "skull stripped"
    content["folds"] = {"fold": 0, "of": 5, "split": "validation", "source": "folds.json", "sha256": "0" * 64}
    content["unlabelled"] = [{"subject": "u", "image": ["u/flair.nii.gz", "u/t1.nii.gz"]}]
    part = datalists.subset(content, 0.5)
    datalists.write(part, tmp_path / "list.json")
    assert datalists.read(tmp_path / "list.json") == part
    assert list(part)[-4:] == ["training", "validation", "testing", "unlabelled"]


def test_unlabelled_subjects_are_loaded_for_inference_but_not_for_supervision(tmp_path, content, root):
    content["unlabelled"] = content.pop("validation")
    datalists.write(content, tmp_path / "list.json")
    assert datalists.Datalist(tmp_path / "list.json", root).load("unlabelled")[0]["subject"] == "c"
    with pytest.raises(InputError, match="subject c of unlabelled has no label"):
        datalists.Datalist(tmp_path / "list.json", root).load("unlabelled", label_convention="atlas")


# Missing modalities


@pytest.fixture
def incomplete(datalist, content):
    content["training"][1]["image"][0] = None
    datalist.write_text(json.dumps(content))
    return datalist


def test_a_missing_modality_is_null(incomplete, root):
    (root / "b/flair.nii.gz").unlink()
    whole, lacking = datalists.Datalist(incomplete, root).load("training", missing=())
    assert whole["image"] == [f"{root}/a/flair.nii.gz", f"{root}/a/t1.nii.gz"]
    assert lacking["image"] == [None, f"{root}/b/t1.nii.gz"]
    assert datalists.Datalist(incomplete, root).load("training", ["T1"])[1]["image"] == [f"{root}/b/t1.nii.gz"]


def test_a_modality_can_be_taken_for_missing(incomplete, root):
    (root / "a/t1.nii.gz").unlink()  # nobody reads it
    (entry,) = datalists.Datalist(incomplete, root).load("validation", missing=["T1"])
    assert entry["image"] == [f"{root}/c/flair.nii.gz", None]
    with pytest.raises(InputError, match=r"subject b lacks FLAIR, T1; expected one of FLAIR, T1$"):
        datalists.Datalist(incomplete, root).load("training", missing=["T1"])


def test_who_needs_all_modalities_is_told_who_lacks_one(incomplete, root):
    expected = f"^datalist {re.escape(str(incomplete))}: subject b lacks FLAIR; expected all of FLAIR, T1$"
    with pytest.raises(InputError, match=expected):
        datalists.Datalist(incomplete, root).load("training")


def test_a_subject_without_any_image_is_refused(incomplete, content):
    content["training"][1]["image"] = [None, None]
    incomplete.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"subject b has no image; expected one of FLAIR, T1$"):
        datalists.read(incomplete)
