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
        *[(1, 17, [2, 1, 17]), (0.1, "all", [0, 0, 20]), (0, "all", [0, 0, 20])],
    ],
)
def test_splits_have_the_size_asked_for_and_share_nobody(root, validation, testing, expected):
    add_atlas(root, *range(20))
    content = written(atlas, root, validation=validation, testing=testing)
    splits = subjects(content)
    assert sizes(splits) == expected
    assert everybody(content) == [f"sub-r{number:03d}s001" for number in range(20)]
    assert all(members == sorted(members) for members in splits.values())


def test_the_self_supervised_stage_validates_on_two_people(root, tmp_path):
    """One is refused when its training starts: telling views apart takes a batch of two crops."""
    add_ukb(root, *range(1000000, 1000005))
    expected = r"^--validation=1: 1 of 5 people, who choose the checkpoint; expected 2 at least, or --testing=all for"
    with pytest.raises(InputError, match=expected):
        written(ukb, root, validation=1)
    assert not (tmp_path / "list.json").exists()
    assert sizes(subjects(written(ukb, root, validation=2))) == [3, 2, 0]


def test_the_seed_decides_and_nothing_else(root, tmp_path):
    add_atlas(root, *reversed(range(20)))
    made = [written(atlas, root, f"{n}.json", validation=5, testing=5, seed=seed) for n, seed in enumerate((0, 0, 1))]
    assert (tmp_path / "0.json").read_bytes() == (tmp_path / "1.json").read_bytes()
    assert subjects(made[0]) != subjects(made[2])
    assert written(atlas, root, validation=2, testing=5)["testing"] == made[0]["testing"]


@pytest.mark.parametrize(
    ("command", "add", "visits", "length"),
    [(ukb, add_ukb, {"visits": ("2_0", "3_0")}, 7), (brats, add_brats_2023, {"timepoints": (0, 100)}, 15)],
)
def test_all_visits_of_a_person_are_in_one_split(root, command, add, visits, length):
    add(root, *range(1000000, 1000010) if command is ukb else range(10), **visits)
    content = written(command, root, validation=3, testing=3)
    assert sizes(subjects(content)) == [8, 6, 6]
    assert sizes(people(content, length)) == [4, 3, 3]


def test_the_splits_of_atlas_are_the_same_in_each_layout(tmp_path):
    made = []
    for layout, above in (("subjects", ""), ("sites", "R{:03d}/"), ("release", "Training/R{:03d}/")):
        add_atlas(tmp_path / layout, *range(20), above=above)
        made.append(written(atlas, tmp_path / layout, validation=5, testing=5))
    assert subjects(made[0]) == subjects(made[1]) == subjects(made[2])
    assert made[2]["training"][0]["label"].startswith("Training/R0")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation": -1}, "validation=-1: expected a number of people, or a fraction"),
        ({"validation": 1.5}, "--validation=1.5: expected"),
        ({"testing": True}, "--testing=True: expected"),
        ({"testing": "some"}, "--testing=some: expected a number of people, .*, or all$"),
        ({"validation": 2, "testing": 2}, "--validation=2 --testing=2: nobody is left for training, of 4 people; "),
        ({"validation": 2, "testing": 1}, "--testing=1: 1 person is left for training, of 4 people; expected 2 at "),
        ({"validation": 0}, "--validation=0: 0 of 4 people, .*; expected 1 at least, or --testing=all for a cohort"),
        ({"validation": 1, "testing": "all"}, "--validation=1: expected none together with --testing=all"),
        ({"folds": 4, "fold": 0, "fold_to": "testing", "validation": 2}, "^--validation=2: 1 person .* for a batch$"),
        ({"folds": 4, "fold": 0, "fold_to": "testing", "validation": 0}, "^--validation=0: 0 of 3 .* 1 at least$"),
        ({"seed": -1}, "seed=-1: expected a whole number from 0"),
        ({"fold": 0}, "--fold=0: expected --folds too"),
        ({"fold_to": "testing"}, "--fold_to=testing: expected --folds too"),
        ({"folds": 2}, "--fold: missing; expected one of 0, 1, the folds of --folds=2"),
        ({"folds": 2, "fold": True}, "fold=True: expected one of 0, 1"),
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
    assert capsys.readouterr().out.splitlines() == [
        "without label: 4 subjects, such as sub-r006s001; they are in the split unlabelled",
        f"{root.parent}/list.json: 3 training, 1 validation, 2 testing, 4 unlabelled",
    ]
    assert all("label" in entry for split in ("training", "validation", "testing") for entry in content[split])
    first = content["unlabelled"][0]
    assert (first.keys(), first["image"][0][:25]) == ({"subject", "image"}, "Testing/R006/sub-r006s001")
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


def test_a_cohort_without_any_mask_can_be_predicted_or_pretrained_on(root):
    add_atlas(root, *range(6), mask=False)
    content = written(atlas, root)
    assert (content["label_convention"], sizes(subjects(content))) == (None, [0, 0, 0, 6])
    assert sizes(subjects(written(atlas, root, validation=2, unlabelled="training"))) == [4, 2, 0]


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
        content = written(brats, root, folds=folds, fold=fold, consort=str(tmp_path / "flow.json"))
        held, rest = (sorted(name for name in of if (of[name] == fold) is here) for here in (True, False))
        assert subjects(content) == {"training": rest, "validation": held, "testing": []}
        record = {"fold": fold, "of": 5, "split": "validation", "source": "folds.json", "sha256": digest}
        assert content["folds"] == record
    assert capsys.readouterr().out.splitlines()[:2] == [
        "left out, as their people are in no fold: 1 subjects, such as BraTS2021_00009",
        "in a fold, but no complete subject of the root: 1 subjects, such as BraTS2021_09999",
    ]
    flow = json.loads((tmp_path / "flow.json").read_text())["splits"]
    counted = {"training": len(rest), "validation": len(held), "testing": 0, "in no fold": 1}
    assert flow == {split: {"people": count, "visits": count} for split, count in counted.items()}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "nested too deeply; expected a file of folds"),
        ('{"validation": []}', "'training' is a required property; expected a file of folds"),
        ([("0", ["a/b"])], r"\$.training\[0\].fold: '0' is not of type 'integer'"),
        ([(0, "x/BraTS2021_77777/a")], "names none of the 2 subjects .*2021_77777"),
        ([(0, "BraTS2021_00000/a"), (1, "BraTS2021_00000/b")], "BraTS2021_00000 is in fold 0 and in 1"),
        ([(0, "BraTS2021_00000_t1.nii")], "image BraTS2021_00000_t1.nii is in no folder; expected a folder named as"),
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


@pytest.mark.parametrize("fold_to", ["validation", "testing"])
def test_who_is_held_out_by_a_file_of_folds_is_not_trained_on_without_mask_either(root, tmp_path, capsys, fold_to):
    """People 0, 1, 7 and 9 have masks, 2 and 3 none, 4 is in no fold and has none, 5 is in no fold and has one."""
    add_brats_2023(root, 0, 1, 5, 7, 9)
    add_brats_2023(root, 2, 3, 4, mask=False)
    add_brats_2023(root, 0, timepoints=(1,), mask=False)
    in_fold = {f"BraTS-GLI-{person:05d}-000": person % 2 for person in (*range(4), 7, 9)}
    options = {"folds": _write_folds(tmp_path / "folds.json", in_fold), "fold": 0, "fold_to": fold_to}
    options |= {"validation": 1} if fold_to == "testing" else {}
    splits = subjects(written(brats, root, unlabelled="training", **options))
    kept = splits["training"] + (splits["validation"] if fold_to == "testing" else [])
    assert sorted(kept) == [f"BraTS-GLI-0000{person}-000" for person in (1, 3, 7, 9)]
    assert splits[fold_to] == ["BraTS-GLI-00000-000"]
    assert splits["unlabelled"] == ["BraTS-GLI-00000-001", "BraTS-GLI-00002-000", "BraTS-GLI-00004-000"]
    assert capsys.readouterr().out.splitlines()[:2] == [
        "left out, as their people are in no fold: 1 subjects, such as BraTS-GLI-00005-000",
        "without label: 4 subjects, such as BraTS-GLI-00000-001; "
        "they are in training, but for those of people who are held out or in no fold",
    ]


def test_a_file_of_folds_holds_for_all_visits_of_a_person(root, tmp_path, capsys):
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
    printed = capsys.readouterr().out
    assert "in no fold" not in printed
    assert "in a fold" not in printed
    folds = _write_folds(tmp_path / "folds.json", of | {"BraTS-GLI-00001-001": 0})
    with pytest.raises(InputError, match="BraTS-GLI-00001 is in fold 1 and in 0"):
        written(brats, root, folds=folds, fold=0)
