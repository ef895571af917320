"""Folds of a datalist: `python -m scripts.datalists fold`, and the numbers of the folds."""

import hashlib
import json
from itertools import combinations

import pytest

from common.data import datalists
from scripts.datalists import __main__ as commands
from scripts.datalists.splits import numbers_of
from tests.scripts.datalists.folders import subjects

RECORD = {"fold": 0, "of": 5, "split": "testing", "source": "x"}


def entry(subject, label=True):
    return {"subject": subject, "image": [f"{subject}.nii"]} | ({"label": f"{subject}_seg.nii"} if label else {})


def content(training, validation=(), testing=(), **others):
    head = {"name": "own", "modalities": ["T1"], "regions": {"lesion": 1}, "preparation": "by hand"} | others
    splits = {"training": training, "validation": validation, "testing": testing}
    return head | {name: [one if isinstance(one, dict) else entry(one) for one in splits[name]] for name in splits}


@pytest.fixture
def own(tmp_path):
    """Twelve people in training and validation, the first of them with two visits, and two in testing."""
    names = ["sub-00_ses-1", "sub-00_ses-2", *(f"sub-{number:02}" for number in range(1, 12))]
    path = tmp_path / "own.json"
    path.write_text(json.dumps(content(names[:8], names[8:], ["sub-88", "sub-89"])))
    return path


def held_out(own, tmp_path, **options):
    commands.fold(str(own), str(tmp_path / "fold.json"), **{"folds": 3, "fold": 0} | options)
    return subjects(datalists.read(tmp_path / "fold.json"))


@pytest.mark.parametrize(("fold_to", "validation"), [("validation", None), ("testing", 2)])
def test_each_subject_is_held_out_once_with_all_visits_of_its_person(own, tmp_path, capsys, fold_to, validation):
    before = subjects(datalists.read(own))
    everybody = sorted(before["training"] + before["validation"])
    held = []
    for fold in range(5):
        found = held_out(own, tmp_path, folds=5, fold=fold, fold_to=fold_to, validation=validation)
        held += found[fold_to]
        assert ("sub-00_ses-1" in found[fold_to]) == ("sub-00_ses-2" in found[fold_to])
        assert len({name[:6] for name in found[fold_to]}) in (2, 3)
        in_folds = found["training"] + found["validation"] + (found["testing"] if fold_to == "testing" else [])
        assert sorted(in_folds) == everybody
        if fold_to == "validation":
            assert found["testing"] == ["sub-88", "sub-89"]
        else:
            assert len({name[:6] for name in found["validation"]}) == 2
            assert "subjects in testing, left out of all folds: 2, such as sub-88" in capsys.readouterr().out
    assert sorted(held) == everybody
    written = json.loads((tmp_path / "fold.json").read_text())
    assert written["folds"] == {"fold": 4, "of": 5, "split": fold_to, "source": "assigned at random, seed 0"}
    assert (written["preparation"], written["regions"]) == ("by hand", {"lesion": [1]})
    assert written["training"][0]["label"].endswith("_seg.nii")


def test_the_folds_can_come_from_a_file(own, tmp_path, capsys):
    before = subjects(datalists.read(own))
    names = before["training"] + before["validation"]
    path = tmp_path / "folds.json"
    of = {name: 7 if number % 2 else 2 for number, name in enumerate(names[2:])} | dict.fromkeys(names[:2], 2)
    images = [{"fold": fold, "image": [f"x/{name}/t1.nii"]} for name, fold in of.items() if name != "sub-11"]
    images.append({"fold": 7, "image": ["x/sub-77/t1.nii"]})
    path.write_text(json.dumps({"training": images}))
    assert numbers_of(str(path)) == [2, 7]
    found = held_out(own, tmp_path, folds=str(path), fold=7)
    assert sorted(found["validation"]) == sorted(name for name, fold in of.items() if fold == 7 and name != "sub-11")
    assert "sub-11" not in found["training"], "it is in no fold"
    record = datalists.read(tmp_path / "fold.json")["folds"]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert record == {"fold": 7, "of": 2, "split": "validation", "source": "folds.json", "sha256": digest}
    assert capsys.readouterr().out.splitlines()[1:3] == [
        "subjects left out, as their people are in no fold: 1, such as sub-11",
        "subjects in a fold, but not in training or validation of the datalist: 1, such as sub-77",
    ]


def test_who_is_held_out_by_a_file_of_folds_is_not_trained_on_without_mask_either(tmp_path):
    """Of person 0 the file names one of two visits; 2 and 3 have no mask, and 4, who has none, is in no fold."""
    without = [entry(name, False) for name in ("sub-0_ses-2", "sub-2", "sub-3", "sub-4")]
    (tmp_path / "own.json").write_text(json.dumps(content(["sub-0", "sub-1", "sub-5", *without])))
    images = [{"fold": n % 2, "image": [f"x/sub-{n}/t1.nii"]} for n in (0, 1, 2, 3, 5)]
    (tmp_path / "folds.json").write_text(json.dumps({"training": images}))
    found = held_out(tmp_path / "own.json", tmp_path, folds=str(tmp_path / "folds.json"), fold=0)
    assert found == {"training": ["sub-1", "sub-5", "sub-3"], "validation": ["sub-0"], "testing": []}


def test_subjects_without_label_are_trained_on_where_their_person_is(tmp_path):
    visits = [entry(f"sub-{number}_ses-2", label=False) for number in range(4)]
    path = tmp_path / "own.json"
    path.write_text(json.dumps(content([f"sub-{number}" for number in range(4)] + visits + [entry("sub-9", False)])))
    found = held_out(path, tmp_path, folds=2)
    held = set(found["validation"])
    assert len(held) == 2
    assert set(found["training"]) == {
        name for number in range(4) for name in (f"sub-{number}", f"sub-{number}_ses-2") if f"sub-{number}" not in held
    } | {"sub-9"}


# Split anew


def test_people_are_split_anew_with_all_visits_and_those_for_testing_stay(own, tmp_path):
    own.write_text(json.dumps(json.loads(own.read_text()) | {"folds": RECORD}))
    before = datalists.read(own)
    commands.split(str(own), str(tmp_path / "split.json"), validation=2, testing=3, seed=1)
    after = datalists.read(tmp_path / "split.json")
    names = ("training", "validation", "testing")
    parts = [{datalists.person_in(entry) for entry in after[name]} for name in names]
    assert [len(people) for people in parts] == [7, 2, 3 + 2]
    assert {"sub-88", "sub-89"} < parts[2]
    assert not any(first & other for first, other in combinations(parts, 2))
    old, new = (sorted(subject for name in names for subject in subjects(file)[name]) for file in (before, after))
    assert old == new
    assert after.keys() == before.keys() - {"folds"}


def test_a_person_for_testing_leaves_the_training_and_the_record_of_a_subset_ends(own, tmp_path):
    content = json.loads(own.read_text())
    person = datalists.person_in(content["training"][0])
    content["testing"].append({**content["training"].pop(0), "subject": "again", "person": person})
    content["subset"] = {"fraction": 0.5, "seed": 0, "nested": False, "of": 16}
    own.write_text(json.dumps(content))
    commands.split(str(own), str(tmp_path / "split.json"), validation=2, testing=3, seed=1)
    after = datalists.read(tmp_path / "split.json")
    assert "subset" not in after
    assert person not in {datalists.person_in(entry) for name in ("training", "validation") for entry in after[name]}
