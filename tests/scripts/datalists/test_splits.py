"""Who is in which split of a datalist: drawn at random, or by the folds of a file; `test_hold_out` deals folds."""

import hashlib
import json
from pathlib import Path

import pytest

from common.errors import InputError
from scripts.datalists.__main__ import atlas, brats, ukb
from tests.scripts.datalists.cohorts import (
    add_atlas,
    add_brats,
    add_brats_2023,
    add_ukb,
    everybody,
    people,
    sizes,
    subjects,
    written,
)
from tests.support import one_line


@pytest.mark.parametrize(
    ("validation", "testing", "expected"),
    [
        *[(0.1, 0, [18, 2, 0]), (3, 5, [12, 3, 5]), (0.25, 0.5, [5, 5, 10]), (0.001, 0.0, [19, 1, 0])],
        (0.1, "all", [0, 0, 20]),
    ],
)
def test_splits_have_the_size_asked_for_and_share_nobody(root, validation, testing, expected):
    add_atlas(root, *range(20))
    content = written(atlas, root, validation=validation, testing=testing)
    splits = subjects(content)
    assert sizes(splits) == expected
    assert everybody(content) == [f"sub-r{number:03d}s001" for number in range(20)]
    assert all(members == sorted(members) for members in splits.values())


def test_the_seed_decides(root):
    add_atlas(root, *range(20))
    made = [written(atlas, root, f"{n}.json", validation=5, testing=5, seed=seed) for n, seed in enumerate((0, 0, 1))]
    assert subjects(made[0]) == subjects(made[1]) != subjects(made[2])


def test_the_self_supervised_stage_validates_on_two_people(root, tmp_path):
    """One is refused when its training starts: telling views apart takes a batch of two crops."""
    add_ukb(root, *range(1000000, 1000005))
    expected = r"^--validation=1: 1 of 5 people, who choose the checkpoint; expected 2 at least, or --testing=all for"
    with pytest.raises(InputError, match=expected):
        written(ukb, root, validation=1)
    assert not (tmp_path / "list.json").exists()
    assert sizes(subjects(written(ukb, root, validation=2))) == [3, 2, 0]


@pytest.mark.parametrize(
    ("command", "add", "visits", "length"),
    [(ukb, add_ukb, {"visits": ("2_0", "3_0")}, 7), (brats, add_brats_2023, {"timepoints": (0, 100)}, 15)],
)
def test_all_visits_of_a_person_are_in_one_split(root, command, add, visits, length):
    add(root, *range(1000000, 1000010) if command is ukb else range(10), **visits)
    content = written(command, root, validation=3, testing=3)
    assert sizes(subjects(content)) == [8, 6, 6]
    assert sizes(people(content, length)) == [4, 3, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation": -1}, "validation=-1: expected a number of people, or a fraction"),
        ({"validation": 2, "testing": 2}, "--validation=2 --testing=2: splits leave 0 of 4 people for training; "),
        ({"validation": 2, "testing": 1}, "--testing=1: splits leave 1 of 4 people for training; need 2 for a "),
        ({"validation": 1, "testing": "all"}, "--validation=1: expected none together with --testing=all"),
        ({"seed": -1}, "seed=-1: expected a whole number from 0"),
        ({"fold": 0}, "--fold=0: expected --folds too"),
        ({"folds": 2}, "--fold: missing; expected one of 0, 1, the folds of --folds=2"),
        ({"folds": 2, "fold": 0, "testing": 0}, "--testing=0: expected none together with --folds"),
    ],
)
def test_bad_options_are_named(root, tmp_path, options, message):
    add_brats(root, *range(4))
    with pytest.raises(InputError, match=message) as error:
        written(brats, root, **options)
    assert one_line(error)
    assert list(tmp_path.iterdir()) == [root]


def test_subjects_without_mask_are_kept_apart_or_trained_on(root, capsys):
    add_atlas(root, *range(6), above="Training/R{:03d}/")
    add_atlas(root, *range(6, 10), above="Testing/R{:03d}/", mask=False)
    content = written(atlas, root, validation=1, testing=2)
    told = "without label: 4 subjects, such as sub-r006s001; they are in the split unlabelled\n"
    assert told in capsys.readouterr().out
    assert all("label" in entry for split in ("training", "validation", "testing") for entry in content[split])
    assert content["unlabelled"][0].keys() == {"subject", "image"}
    apart, together = subjects(content), subjects(written(atlas, root, validation=1, testing=2, unlabelled="training"))
    assert together["training"] == sorted(apart["training"] + apart.pop("unlabelled"))
    assert together | {"training": apart["training"]} == apart


def test_scans_without_mask_of_a_person_who_is_held_out_are_not_trained_on(root):
    add_brats_2023(root, *range(6))
    add_brats_2023(root, *range(6), timepoints=(1,), mask=False)
    content = written(brats, root, validation=2, testing=1, unlabelled="training")
    persons = people(content, 15)
    assert sizes(subjects(content)) == [6, 2, 1, 3]
    assert persons["unlabelled"] == persons["validation"] | persons["testing"]
    assert not persons["training"] & persons["unlabelled"]


def _write_folds(path, folds):
    """A file in the form of the public one, whose paths begin with the folder of the archive."""
    image = "TrainingData/{0}/{0}_{1}.nii.gz"
    kinds = ("flair", "t1ce", "t1", "t2")
    entries = [
        {"fold": fold, "image": [image.format(name, kind) for kind in kinds], "label": image.format(name, "seg")}
        for name, fold in folds.items()
    ]
    path.write_text(json.dumps({"training": entries}))
    return str(path)


def test_the_folds_of_a_file_are_held_out_one_at_a_time(root, tmp_path, capsys):
    add_brats(root, *range(10))
    of = {f"BraTS2021_{number:05d}": number * 7 % 5 for number in range(9)}
    folds = _write_folds(tmp_path / "folds.json", of | {"BraTS2021_09999": 4})
    digest = hashlib.sha256(Path(folds).read_bytes()).hexdigest()
    for fold in range(5):
        content = written(brats, root, folds=folds, fold=fold)
        held, rest = (sorted(name for name in of if (of[name] == fold) is here) for here in (True, False))
        assert subjects(content) == {"training": rest, "validation": held, "testing": []}
        record = {"fold": fold, "of": 5, "split": "validation", "source": "folds.json", "sha256": digest}
        assert content["folds"] == record
    assert capsys.readouterr().out.splitlines()[:2] == [
        "left out, as their people are in no fold: 1 subjects, such as BraTS2021_00009",
        "in a fold, but no complete subject of the root: 1 subjects, such as BraTS2021_09999",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ([("0", ["a/b"])], r"\$.training\[0\].fold = .0.: '0' is not of type 'integer'"),
        ([(0, "BraTS2021_00000/a"), (1, "BraTS2021_00000/b")], "BraTS2021_00000 is in fold 0 and in 1"),
        ([(0, "BraTS2021_00000/a")], "--fold=0: 1 people in it and 0 in the others; expected 1"),
    ],
)
def test_a_broken_file_of_folds_is_named(root, tmp_path, content, message):
    add_brats(root, 0, 1)
    if not isinstance(content, str):
        content = json.dumps({"training": [{"fold": fold, "image": image} for fold, image in content]})
    (tmp_path / "folds.json").write_text(content)
    with pytest.raises(InputError, match=message) as error:
        written(brats, root, folds=str(tmp_path / "folds.json"), fold=0)
    assert one_line(error)


def test_who_is_held_out_by_a_file_of_folds_is_not_trained_on_without_mask_either(root, tmp_path, capsys):
    """People 0, 1, 7 and 9 have masks, 2 and 3 none, 4 is in no fold and has none, 5 is in no fold and has one."""
    add_brats_2023(root, 0, 1, 5, 7, 9)
    add_brats_2023(root, 2, 3, 4, mask=False)
    add_brats_2023(root, 0, timepoints=(1,), mask=False)
    in_fold = {f"BraTS-GLI-{person:05d}-000": person % 2 for person in (*range(4), 7, 9)}
    options = {"folds": _write_folds(tmp_path / "folds.json", in_fold), "fold": 0, "fold_to": "testing"}
    splits = subjects(written(brats, root, unlabelled="training", validation=1, **options))
    kept = sorted(splits["training"] + splits["validation"])
    assert kept == [f"BraTS-GLI-0000{person}-000" for person in (1, 3, 7, 9)]
    assert splits["testing"] == ["BraTS-GLI-00000-000"]
    assert splits["unlabelled"] == ["BraTS-GLI-00000-001", "BraTS-GLI-00002-000", "BraTS-GLI-00004-000"]
    assert "in training, but for those of people who are held out or in no fold" in capsys.readouterr().out


def test_a_file_of_folds_holds_for_all_visits_of_a_person(root, tmp_path):
    """Of person 0 the file names a visit without mask, of person 1 one of two visits."""
    add_brats_2023(root, 0, mask=False)
    add_brats_2023(root, 0, timepoints=(1,))
    add_brats_2023(root, 1, timepoints=(0, 1))
    add_brats_2023(root, 2)
    of = {f"BraTS-GLI-0000{person}-000": min(person, 1) for person in range(3)}
    folds = _write_folds(tmp_path / "folds.json", of)
    assert subjects(written(brats, root, folds=folds, fold=0)) == {
        "training": ["BraTS-GLI-00001-000", "BraTS-GLI-00001-001", "BraTS-GLI-00002-000"],
        "validation": ["BraTS-GLI-00000-001"],
        "testing": [],
        "unlabelled": ["BraTS-GLI-00000-000"],
    }
