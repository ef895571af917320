"""Folds and new splits of a datalist: `python -m scripts.datalists fold`, `split`."""

import hashlib
import json

import pytest

from common.data import datalists
from scripts.datalists import __main__ as commands
from scripts.datalists.splits import members_of
from tests.scripts.datalists.folders import everybody, subjects


def entry(subject):
    return {"subject": subject, "image": [f"{subject}.nii"], "label": f"{subject}_seg.nii"}


def write(path, training, testing=(), **more):
    head = {"name": "own", "modalities": ["T1"], "regions": {"lesion": 1}, "preparation": "by hand"} | more
    parts = {"training": training, "validation": [], "testing": testing}
    content = head | {name: [it if isinstance(it, dict) else entry(it) for it in part] for name, part in parts.items()}
    path.write_text(json.dumps(content))
    return path


NAMES = ["sub-00_ses-1", "sub-00_ses-2", *(f"sub-{number:02}" for number in range(1, 12))]


@pytest.fixture
def own(tmp_path):
    """Twelve people for training, the first of them with two visits, and two in testing."""
    return write(tmp_path / "own.json", NAMES, ["sub-88", "sub-89"])


def held_out(own, **options):
    target = own.parent / "fold.json"
    commands.fold(str(own), str(target), **{"folds": 3, "fold": 0} | options)
    return subjects(datalists.read(target))


@pytest.mark.parametrize(("fold_to", "validation"), [("validation", None), ("testing", 2)])
def test_each_subject_is_held_out_once_with_all_visits_of_its_person(own, tmp_path, fold_to, validation):
    held = []
    for fold in range(5):
        found = held_out(own, folds=5, fold=fold, fold_to=fold_to, validation=validation)
        held += found[fold_to]
        assert ("sub-00_ses-1" in found[fold_to]) == ("sub-00_ses-2" in found[fold_to])
        in_folds = found["training"] + found["validation"] + (found["testing"] if fold_to == "testing" else [])
        assert sorted(in_folds) == NAMES
        if fold_to == "validation":
            assert found["testing"] == ["sub-88", "sub-89"]
        else:
            assert len({name[:6] for name in found["validation"]}) == 2
    assert sorted(held) == NAMES
    written = json.loads((tmp_path / "fold.json").read_text())
    assert written["folds"] == {"fold": 4, "of": 5, "split": fold_to, "source": "assigned at random, seed 0"}
    assert (written["preparation"], written["regions"]) == ("by hand", {"lesion": [1]})


def test_the_folds_can_come_from_a_file(own, tmp_path):
    path = tmp_path / "folds.json"
    of = {name: 7 if number % 2 else 2 for number, name in enumerate(NAMES[2:])} | dict.fromkeys(NAMES[:2], 2)
    absent = {"sub-11", NAMES[1]}  # the second visit follows the first
    images = [{"fold": fold, "image": [f"x/{name}/t1.nii"]} for name, fold in of.items() if name not in absent]
    path.write_text(json.dumps({"training": [*images, {"fold": 7, "image": ["x/sub-77/t1.nii"]}]}))
    assert [*members_of(str(path))] == [2, 7]
    found = held_out(own, folds=str(path), fold=7)
    assert sorted(found["validation"]) == sorted(name for name, fold in of.items() if fold == 7 and name != "sub-11")
    assert "sub-11" not in found["training"], "it is in no fold"
    record = datalists.read(tmp_path / "fold.json")["folds"]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert record == {"fold": 7, "of": 2, "split": "validation", "source": "folds.json", "sha256": digest}


def test_people_are_split_anew_with_all_visits_and_those_for_testing_stay(tmp_path):
    """Two of the people in testing have another visit in training; records of folds and subsets end."""
    again = entry("again") | {"person": "sub-01"}
    record = {"fold": 0, "of": 5, "split": "testing", "source": "x"}
    own = write(tmp_path / "own.json", NAMES, ["sub-88", "sub-89", again], folds=record)
    commands.split(str(own), str(tmp_path / "split.json"), validation=2, testing=3, seed=1)
    after = datalists.read(tmp_path / "split.json")
    people = [{datalists.person_in(it) for it in after[name]} for name in ("training", "validation", "testing")]
    assert [len(part) for part in people] == [6, 2, 3 + 3]
    assert {"sub-88", "sub-89", "sub-01"} < people[2]
    assert sum(map(len, people)) == len(set().union(*people)), "nobody is in two splits"
    assert everybody(after) == sorted([*NAMES, "sub-88", "sub-89", "again"])
    assert "folds" not in after
