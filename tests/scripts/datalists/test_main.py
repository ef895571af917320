import gzip
import hashlib
import json
import re
import subprocess
import sys
from collections import Counter
from itertools import chain
from pathlib import Path

import nibabel
import numpy as np
import pytest

from common.errors import InputError
from scripts.datalists import __main__ as datalists
from scripts.phantoms.cohort import make

ROOT = Path(__file__).parents[3]

MODALITIES = {"ukb": ["T1", "FLAIR"], "brats": ["FLAIR", "T1ce", "T1", "T2"], "atlas": ["T1"]}


def _touch(root, *files):
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()


def _add_ukb(root, person, visit="2_0"):
    _touch(
        root,
        f"{person}_20252_{visit}/T1/T1_brain_to_MNI.nii.gz",
        f"{person}_20253_{visit}/T2_FLAIR/T2_FLAIR_brain_to_MNI.nii.gz",
    )


def _add_brats(root, number):
    name = f"BraTS2021_{number:05d}"
    _touch(root, *[f"{name}/{name}_{kind}.nii.gz" for kind in ("flair", "t1ce", "t1", "t2", "seg")])


def _add_brats_2023(root, person, timepoint=0, mask=True):
    name = f"BraTS-GLI-{person:05d}-{timepoint:03d}"
    kinds = ("t2f", "t1c", "t1n", "t2w", *(["seg"] if mask else []))
    _touch(root, *[f"{name}/{name}-{kind}.nii.gz" for kind in kinds])


def _add_atlas(root, number, above="", mask=True):
    name = f"sub-r{number:03d}s001"
    stem = f"{above}{name}/ses-1/anat/{name}_ses-1_space-MNI152NLin2009aSym"
    _touch(root, f"{stem}_T1w.nii.gz", *([f"{stem}_label-L_desc-T1lesion_mask.nii.gz"] if mask else []))


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "cohort"
    folder.mkdir()
    return folder


def _splits(path):
    content = json.loads(path.read_text())
    splits = ("training", "validation", "testing", "unlabelled")
    return {split: [entry["subject"] for entry in content[split]] for split in splits if split in content}


@pytest.mark.parametrize(
    ("command", "add", "expected"),
    [
        (
            datalists.ukb,
            lambda root: _add_ukb(root, 1000012),
            {
                "subject": "1000012_2_0",
                "image": [
                    "1000012_20252_2_0/T1/T1_brain_to_MNI.nii.gz",
                    "1000012_20253_2_0/T2_FLAIR/T2_FLAIR_brain_to_MNI.nii.gz",
                ],
            },
        ),
        (
            datalists.brats,
            lambda root: _add_brats(root, 7),
            {
                "subject": "BraTS2021_00007",
                "image": [f"BraTS2021_00007/BraTS2021_00007_{kind}.nii.gz" for kind in ("flair", "t1ce", "t1", "t2")],
                "label": "BraTS2021_00007/BraTS2021_00007_seg.nii.gz",
            },
        ),
        (
            datalists.atlas,
            lambda root: _add_atlas(root, 3),
            {
                "subject": "sub-r003s001",
                "image": [
                    "sub-r003s001/ses-1/anat/sub-r003s001_ses-1_space-MNI152NLin2009aSym_T1w.nii.gz",
                ],
                "label": "sub-r003s001/ses-1/anat/"
                "sub-r003s001_ses-1_space-MNI152NLin2009aSym_label-L_desc-T1lesion_mask.nii.gz",
            },
        ),
    ],
    ids=MODALITIES,
)
def test_each_layout_gives_relative_paths_in_the_order_of_its_modalities(root, tmp_path, command, add, expected):
    add(root)
    _touch(root, "readme.txt", "derivatives/T1.nii.gz")
    command(root, tmp_path / "list.json", testing="all")
    content = json.loads((tmp_path / "list.json").read_text())
    assert list(content)[-3:] == ["training", "validation", "testing"]
    assert "preparation" not in content  # nothing can be measured in empty files
    assert content == {
        "name": command.__name__,
        "modalities": MODALITIES[command.__name__],
        "label_convention": {"ukb": None, "brats": "brats2021", "atlas": "atlas"}[command.__name__],
        "training": [],
        "validation": [],
        "testing": [expected],
    }


def test_subjects_that_lack_a_file_are_told_and_left_out(root, tmp_path, capsys):
    for number in range(5):
        _add_brats(root, number)
    (root / "BraTS2021_00001/BraTS2021_00001_t1ce.nii.gz").unlink()
    (root / "BraTS2021_00002/BraTS2021_00002_t2.nii.gz").unlink()
    (root / "BraTS2021_00002/BraTS2021_00002_flair.nii.gz").unlink()
    datalists.brats(root, tmp_path / "list.json", validation=1)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "left out: BraTS2021_00001 lacks T1ce",
        "left out: BraTS2021_00002 lacks FLAIR and T2",
        f"{tmp_path}/list.json: 2 training, 1 validation, 0 testing",
    ]
    splits = _splits(tmp_path / "list.json")
    assert sorted(splits["training"] + splits["validation"]) == [f"BraTS2021_0000{n}" for n in (0, 3, 4)]


def test_a_modality_without_its_partner_is_told(root, tmp_path, capsys):
    _add_ukb(root, 1000012)
    _touch(root, "1000049_20253_2_0/T2_FLAIR/T2_FLAIR_brain_to_MNI.nii.gz")
    datalists.ukb(root, tmp_path / "list.json", testing="all")
    assert "left out: 1000049_2_0 lacks T1\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("validation", "testing", "sizes"),
    [
        *[(0.1, 0, (18, 2, 0)), (3, 5, (12, 3, 5)), (0.25, 0.5, (5, 5, 10)), (0.001, 0.0, (19, 1, 0))],
        *[(1, 17, (2, 1, 17)), (0.1, "all", (0, 0, 20)), (0, "all", (0, 0, 20))],
    ],
)
def test_splits_have_the_size_asked_for_and_share_nobody(root, tmp_path, validation, testing, sizes):
    for number in range(20):
        _add_atlas(root, number)
    datalists.atlas(root, tmp_path / "list.json", validation, testing)
    splits = _splits(tmp_path / "list.json")
    assert tuple(len(members) for members in splits.values()) == sizes
    assert sorted(chain.from_iterable(splits.values())) == [f"sub-r{number:03d}s001" for number in range(20)]
    assert all(members == sorted(members) for members in splits.values())


def test_the_self_supervised_stage_validates_on_two_people(root, tmp_path):
    """One is refused when its training starts: telling views apart takes a batch of two crops."""
    for person in range(1000000, 1000005):
        _add_ukb(root, person)
    expected = r"^--validation=1: 1 of 5 people, who choose the checkpoint; expected 2 at least, or --testing=all for"
    with pytest.raises(InputError, match=expected):
        datalists.ukb(root, tmp_path / "list.json", validation=1)
    assert not (tmp_path / "list.json").exists()
    datalists.ukb(root, tmp_path / "list.json", validation=2)
    assert len(_splits(tmp_path / "list.json")["validation"]) == 2


def test_the_seed_decides_and_nothing_else(root, tmp_path):
    for number in reversed(range(20)):
        _add_atlas(root, number)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        datalists.atlas(root, tmp_path / f"{name}.json", 5, 5, seed=seed)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert _splits(tmp_path / "a.json") != _splits(tmp_path / "c.json")
    datalists.atlas(root, tmp_path / "d.json", 2, 5)
    assert _splits(tmp_path / "d.json")["testing"] == _splits(tmp_path / "a.json")["testing"]


def test_all_visits_of_a_person_are_in_one_split(root, tmp_path):
    for person in range(1000000, 1000010):
        for visit in ("2_0", "3_0"):
            _add_ukb(root, person, visit)
    datalists.ukb(root, tmp_path / "list.json", validation=3, testing=3)
    splits = _splits(tmp_path / "list.json")
    people = {split: {subject.split("_")[0] for subject in members} for split, members in splits.items()}
    assert [len(members) for members in splits.values()] == [8, 6, 6]
    assert [len(members) for members in people.values()] == [4, 3, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation": -1}, "validation=-1: expected a number of people, or a fraction"),
        ({"validation": 1.5}, "--validation=1.5: expected"),
        ({"testing": True}, "--testing=True: expected"),
        ({"testing": "some"}, "--testing=some: expected"),
        ({"validation": 2, "testing": 2}, "--validation=2 --testing=2: nobody is left for training, of 4 people; "),
        ({"validation": 2, "testing": 1}, "--testing=1: 1 person is left for training, of 4 people; expected 2 at "),
        ({"validation": 0}, "--validation=0: 0 of 4 people, .*; expected 1 at least, or --testing=all for a cohort"),
        ({"validation": 1, "testing": "all"}, "--validation=1: expected none together with --testing=all"),
        ({"folds": 4, "fold": 0, "fold_to": "testing", "validation": 2}, "^--validation=2: 1 person .* for a batch$"),
        ({"folds": 4, "fold": 0, "fold_to": "testing", "validation": 0}, "^--validation=0: 0 of 3 .* 1 at least$"),
        ({"seed": -1}, "seed=-1: expected a whole number from 0"),
        ({"root": "/no/such"}, "--root=/no/such: No such file or directory; expected a folder"),
        ({"output": "/etc/passwd/list.json"}, "--output=/etc/passwd/list.json: expected a file that can be written"),
        ({"output": "/"}, "--output=/: expected a file"),
        ({"consort": "/etc/passwd/flow.json"}, "--consort=/etc/passwd/flow.json: expected a file that can be written"),
        ({"consort": "flow.svg"}, "--consort=flow.svg: expected a file that ends in .json"),
        ({"output": "same.json", "consort": "same.json"}, "--consort=same.json: expected another file than --output"),
        ({"output": "./a/../same.json", "consort": "same.json"}, "--consort=same.json: expected another file than"),
        ({"output": "flow.svg", "consort": "flow.json"}, "--consort=flow.svg: expected another file than --output"),
        ({"output": "f.json", "folds": "./f.json", "fold": 0}, "--output=f.json: expected another file than --folds"),
        ({"output": "~nobody_of_this_name/list.json"}, "--output=~nobody_of_this_name/list.json: .*; expected a path"),
        ({"label_convention": "brats"}, "label_convention=brats: expected one of brats2021, .*, or regions and their"),
        ({"unlabelled": "drop"}, "unlabelled=drop: expected one of apart, training"),
        ({"fold": 0}, "--fold=0: expected --folds too"),
        ({"fold_to": "testing"}, "--fold_to=testing: expected --folds too"),
        ({"folds": 2}, "--fold: missing; expected one of 0, 1, the folds of --folds=2"),
        ({"folds": 2, "fold": 2}, "fold=2: expected one of 0, 1"),
        ({"folds": 2, "fold": True}, "fold=True: expected one of 0, 1"),
        ({"folds": 1, "fold": 0}, "folds=1: expected a whole number from 2"),
        ({"folds": 5, "fold": 0}, "--folds=5: expected no more than the 4 people with labels"),
        ({"folds": 2, "fold": 0, "validation": 1}, "--validation=1: expected none together with --folds"),
        ({"folds": 2, "fold": 0, "testing": 0}, "--testing=0: expected none together with --folds"),
        ({"folds": 2, "fold": 0, "fold_to": "training"}, "fold_to=training: expected one of validation, testing"),
        ({"folds": "/no/such.json", "fold": 0}, "--folds=/no/such.json: No such file or directory; expected a JSON"),
    ],
)
def test_bad_options_are_named(root, tmp_path, options, message):
    for number in range(4):
        _add_brats(root, number)
    with pytest.raises(InputError, match=message) as error:
        datalists.brats(**{"root": root, "output": tmp_path / "list.json"} | options)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == [root]


def test_a_link_to_the_datalist_is_no_other_file(root, tmp_path):
    _add_brats(root, 0)
    (tmp_path / "list.json").write_text("before")
    (tmp_path / "flow.json").symlink_to("list.json")
    with pytest.raises(InputError, match="expected another file than --output"):
        datalists.brats(root, tmp_path / "list.json", validation=0, consort=tmp_path / "flow.json")
    assert (tmp_path / "list.json").read_text() == "before"


def test_a_tilde_is_the_home_folder(root, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for number in range(4):
        _add_brats(root, number)
    datalists.brats("~/cohort", "~/list.json", consort="~/flow.json")
    datalists.subset("~/list.json", "~/part.json", fraction=0.5)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"cohort", "list.json", "flow.json", "flow.svg", "part.json"}


def test_a_root_without_a_complete_subject_is_named(root, tmp_path):
    _touch(root, "1000049_20253_2_0/T2_FLAIR/T2_FLAIR_brain_to_MNI.nii.gz")
    with pytest.raises(InputError, match=f"--root={root}: no complete subject of UK Biobank; expected T1, FLAIR"):
        datalists.ukb(root, tmp_path / "list.json")


def test_brats_2023_has_its_own_label_convention_and_keeps_the_timepoints_of_a_person_together(root, tmp_path):
    for person in range(10):
        for timepoint in (0, 1, 100):
            _add_brats_2023(root, person, timepoint)
    datalists.brats(root, tmp_path / "list.json", validation=3, testing=3)
    content = json.loads((tmp_path / "list.json").read_text())
    assert content["label_convention"] == "brats2023"
    assert content["modalities"] == MODALITIES["brats"]
    name = content["training"][0]["subject"]
    assert content["training"][0] == {
        "subject": name,
        "image": [f"{name}/{name}-{kind}.nii.gz" for kind in ("t2f", "t1c", "t1n", "t2w")],
        "label": f"{name}/{name}-seg.nii.gz",
    }
    splits = _splits(tmp_path / "list.json")
    people = {split: {subject[:15] for subject in members} for split, members in splits.items()}
    assert [len(members) for members in splits.values()] == [12, 9, 9]
    assert [len(members) for members in people.values()] == [4, 3, 3]


@pytest.mark.parametrize(
    ("convention", "key", "written"),
    [
        ("brats2024", "label_convention", "brats2024"),
        ("cavity = 4, whole=2+3+1", "regions", {"cavity": [4], "whole": [1, 2, 3]}),
    ],
)
def test_brats_after_treatment_has_the_convention_that_is_asked_for(root, tmp_path, convention, key, written):
    """Timepoints of BraTS 2024 are numbered from 100."""
    for person in (5, 6, 7):
        _add_brats_2023(root, person, 100)
    datalists.brats(root, tmp_path / "list.json", label_convention=convention)
    content = json.loads((tmp_path / "list.json").read_text())
    assert content[key] == written
    assert len({"label_convention", "regions"} & content.keys()) == 1
    assert content["training"][0]["subject"].endswith("-100")


def test_conventions_of_brats_are_not_mixed(root, tmp_path):
    _add_brats(root, 0)
    _add_brats_2023(root, 0)
    message = r"mixed: BraTS2021_00000 \(BraTS 2021\), BraTS-GLI-00000-000 \(BraTS 2023 and 2024\); expected one"
    with pytest.raises(InputError, match=message):
        datalists.brats(root, tmp_path / "list.json")


def test_the_splits_of_atlas_are_the_same_in_each_layout(tmp_path):
    for layout, above in (("subjects", ""), ("sites", "R{:03d}/"), ("release", "Training/R{:03d}/")):
        for number in range(20):
            _add_atlas(tmp_path / layout, number, above.format(number))
        datalists.atlas(tmp_path / layout, tmp_path / f"{layout}.json", 5, 5)
    splits = [_splits(tmp_path / f"{layout}.json") for layout in ("subjects", "sites", "release")]
    assert splits[0] == splits[1] == splits[2]
    content = json.loads((tmp_path / "release.json").read_text())
    assert content["training"][0]["label"].startswith("Training/R0")


@pytest.fixture
def release(tmp_path):
    """ATLAS as released: six with masks, four without."""
    for number in range(6):
        _add_atlas(tmp_path / "ATLAS_2", number, f"Training/R{number:03d}/")
    for number in range(6, 10):
        _add_atlas(tmp_path / "ATLAS_2", number, f"Testing/R{number:03d}/", mask=False)
    return tmp_path / "ATLAS_2"


def test_subjects_without_mask_are_kept_apart(release, tmp_path, capsys):
    datalists.atlas(release, tmp_path / "list.json", validation=1, testing=2)
    content = json.loads((tmp_path / "list.json").read_text())
    assert [len(content[split]) for split in ("training", "validation", "testing", "unlabelled")] == [3, 1, 2, 4]
    assert all("label" in entry for split in ("training", "validation", "testing") for entry in content[split])
    assert content["unlabelled"][0] == {
        "subject": "sub-r006s001",
        "image": [
            "Testing/R006/sub-r006s001/ses-1/anat/sub-r006s001_ses-1_space-MNI152NLin2009aSym_T1w.nii.gz",
        ],
    }
    printed = capsys.readouterr().out.splitlines()
    assert printed == [
        "without label: 4 subjects, such as sub-r006s001; they are in the split unlabelled",
        f"{tmp_path}/list.json: 3 training, 1 validation, 2 testing, 4 unlabelled",
    ]


def test_subjects_without_mask_are_trained_on_where_that_is_asked_for(release, tmp_path):
    datalists.atlas(release, tmp_path / "apart.json", validation=1, testing=2)
    datalists.atlas(release, tmp_path / "list.json", validation=1, testing=2, unlabelled="training")
    apart, together = _splits(tmp_path / "apart.json"), _splits(tmp_path / "list.json")
    assert together["training"] == sorted(apart["training"] + apart["unlabelled"])
    assert {split: together[split] for split in ("validation", "testing")} == {
        split: apart[split] for split in ("validation", "testing")
    }
    assert "unlabelled" not in together


def test_scans_without_mask_of_a_person_who_is_held_out_are_not_trained_on(root, tmp_path):
    for person in range(6):
        _add_brats_2023(root, person, 0)
        _add_brats_2023(root, person, 1, mask=False)
    datalists.brats(root, tmp_path / "list.json", validation=2, testing=1, unlabelled="training")
    splits = _splits(tmp_path / "list.json")
    people = {split: {subject[:15] for subject in members} for split, members in splits.items()}
    assert [len(members) for members in splits.values()] == [6, 2, 1, 3]
    assert people["unlabelled"] == people["validation"] | people["testing"]
    assert not people["training"] & people["unlabelled"]


def test_a_cohort_without_any_mask_can_be_predicted_or_pretrained_on(tmp_path):
    for number in range(6):
        _add_atlas(tmp_path / "testing", number, mask=False)
    datalists.atlas(tmp_path / "testing", tmp_path / "apart.json")
    content = json.loads((tmp_path / "apart.json").read_text())
    assert content["label_convention"] is None
    assert [len(content[split]) for split in ("training", "validation", "testing", "unlabelled")] == [0, 0, 0, 6]
    datalists.atlas(tmp_path / "testing", tmp_path / "list.json", validation=2, unlabelled="training")
    assert [len(members) for members in _splits(tmp_path / "list.json").values()] == [4, 2, 0]


def _write_folds(path, folds):
    """A file in the form of the public one, whose paths begin with the folder of the archive."""
    kinds = ("flair", "t1ce", "t1", "t2")
    entries = [
        {
            "fold": fold,
            "image": [f"TrainingData/{name}/{name}_{kind}.nii.gz" for kind in kinds],
            "label": f"TrainingData/{name}/{name}_seg.nii.gz",
        }
        for name, fold in folds.items()
    ]
    path.write_text(json.dumps({"training": entries}))
    return str(path)


def test_the_folds_of_a_file_are_held_out_one_at_a_time(root, tmp_path, capsys):
    for number in range(10):
        _add_brats(root, number)
    of = {f"BraTS2021_{number:05d}": number * 7 % 5 for number in range(9)} | {"BraTS2021_09999": 4}
    folds = _write_folds(tmp_path / "folds.json", of)
    for fold in range(5):
        datalists.brats(root, tmp_path / "list.json", folds=folds, fold=fold)
        splits = _splits(tmp_path / "list.json")
        present = {name for name in of if name != "BraTS2021_09999"}
        assert splits["validation"] == sorted(name for name in present if of[name] == fold)
        assert splits["training"] == sorted(name for name in present if of[name] != fold)
        assert splits["testing"] == []
        assert json.loads((tmp_path / "list.json").read_text())["folds"] == {
            "fold": fold,
            "of": 5,
            "split": "validation",
            "source": "folds.json",
            "sha256": hashlib.sha256(Path(folds).read_bytes()).hexdigest(),
        }
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        "left out, as their people are in no fold: 1 subjects, such as BraTS2021_00009",
        "in a fold, but no complete subject of the root: 1 subjects, such as BraTS2021_09999",
    ]


def test_a_fold_can_be_kept_for_the_score_alone(root, tmp_path):
    for number in range(20):
        _add_brats(root, number)
    folds = _write_folds(tmp_path / "folds.json", {f"BraTS2021_{number:05d}": number % 5 for number in range(20)})
    datalists.brats(root, tmp_path / "list.json", folds=folds, fold=3, fold_to="testing", validation=4)
    splits = _splits(tmp_path / "list.json")
    assert splits["testing"] == [f"BraTS2021_{number:05d}" for number in (3, 8, 13, 18)]
    assert [len(members) for members in splits.values()] == [12, 4, 4]
    assert len(set(chain.from_iterable(splits.values()))) == 20


def test_folds_dealt_by_chance_partition_the_people(root, tmp_path):
    for person in range(13):
        for timepoint in range(1 + person % 2):
            _add_brats_2023(root, person, timepoint)
    held_out = []
    for fold in range(5):
        datalists.brats(root, tmp_path / "list.json", folds=5, fold=fold, seed=3)
        splits = _splits(tmp_path / "list.json")
        people = {split: {subject[:15] for subject in members} for split, members in splits.items()}
        assert not people["training"] & people["validation"]
        assert len(people["training"] | people["validation"]) == 13
        held_out += sorted(people["validation"])
        assert len(people["validation"]) in (2, 3)
    assert len(held_out) == len(set(held_out)) == 13
    assert json.loads((tmp_path / "list.json").read_text())["folds"] == {
        "fold": 4,
        "of": 5,
        "split": "validation",
        "source": "dealt by chance, seed 3",
    }
    datalists.brats(root, tmp_path / "other.json", folds=5, fold=4, seed=4)
    assert _splits(tmp_path / "other.json") != splits


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "nested too deeply; expected a file of folds"),
        ('{"validation": []}', "'training' is a required property; expected a file of folds"),
        ('{"training": [{"image": ["a/b"]}]}', r"\$.training\[0\]: 'fold' is a required property"),
        ('{"training": [{"fold": "0", "image": ["a/b"]}]}', r"\$.training\[0\].fold: '0' is not of type 'integer'"),
        ('{"training": [{"fold": 0, "image": "x/BraTS2021_77777/a"}]}', "names none of the 2 subjects .*2021_77777"),
        (
            '{"training": [{"fold": 0, "image": "BraTS2021_00000/a"}, {"fold": 1, "image": "BraTS2021_00000/b"}]}',
            "BraTS2021_00000 is in fold 0 and in 1",
        ),
        (
            '{"training": [{"fold": 0, "image": "BraTS2021_00000_flair.nii.gz"}]}',
            "image BraTS2021_00000_flair.nii.gz is in no folder; expected a folder named as the subject",
        ),
        (
            '{"training": [{"fold": 0, "image": "BraTS2021_00000/a"}]}',
            "--fold=0: 1 people in it and 0 in the others; expected 1",
        ),
    ],
)
def test_a_broken_file_of_folds_is_named(root, tmp_path, content, message):
    _add_brats(root, 0)
    _add_brats(root, 1)
    folds = tmp_path / "folds.json"
    folds.write_text(content)
    with pytest.raises(InputError, match=message) as error:
        datalists.brats(root, tmp_path / "list.json", folds=str(folds), fold=0)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("fold_to", ["validation", "testing"])
def test_who_is_held_out_by_a_file_of_folds_is_not_trained_on_without_mask_either(root, tmp_path, capsys, fold_to):
    """People 0, 1, 7 and 9 have masks, 2 and 3 none, 4 is in no fold and has none, 5 is in no fold and has one."""
    for person in (*range(6), 7, 9):
        _add_brats_2023(root, person, 0, mask=person in (0, 1, 5, 7, 9))
    _add_brats_2023(root, 0, 1, mask=False)
    in_fold = {f"BraTS-GLI-{person:05d}-000": person % 2 for person in (*range(4), 7, 9)}
    folds = _write_folds(tmp_path / "folds.json", in_fold)
    options = {"folds": folds, "fold": 0, "fold_to": fold_to} | ({"validation": 1} if fold_to == "testing" else {})
    datalists.brats(root, tmp_path / "list.json", unlabelled="training", **options)
    splits = _splits(tmp_path / "list.json")
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
    _add_brats_2023(root, 0, 0, mask=False)
    _add_brats_2023(root, 0, 1)
    _add_brats_2023(root, 1, 0)
    _add_brats_2023(root, 1, 1)
    _add_brats_2023(root, 2, 0)
    folds = _write_folds(tmp_path / "folds.json", {f"BraTS-GLI-0000{n}-000": min(n, 1) for n in range(3)})
    datalists.brats(root, tmp_path / "list.json", folds=folds, fold=0)
    assert _splits(tmp_path / "list.json") == {
        "training": ["BraTS-GLI-00001-000", "BraTS-GLI-00001-001", "BraTS-GLI-00002-000"],
        "validation": ["BraTS-GLI-00000-001"],
        "testing": [],
        "unlabelled": ["BraTS-GLI-00000-000"],
    }
    assert "in no fold" not in (printed := capsys.readouterr().out)
    assert "in a fold" not in printed


def test_a_person_in_two_folds_is_named(root, tmp_path):
    _add_brats_2023(root, 7, 0)
    _add_brats_2023(root, 7, 1)
    folds = _write_folds(tmp_path / "folds.json", {"BraTS-GLI-00007-000": 0, "BraTS-GLI-00007-001": 1})
    with pytest.raises(InputError, match="BraTS-GLI-00007 is in fold 0 and in 1"):
        datalists.brats(root, tmp_path / "list.json", folds=folds, fold=0)


def _write_ukb(root, person, visit, slices):
    """Two volumes of 8 slices, of which the first ones have a signal."""
    _add_ukb(root, person, visit)
    for file, count in zip(("20252_{}/T1/T1", "20253_{}/T2_FLAIR/T2_FLAIR"), slices, strict=True):
        volume = np.zeros((4, 4, 8), np.int16)
        volume[1, 2, :count] = 7
        nibabel.Nifti1Image(volume, np.eye(4)).to_filename(root / f"{person}_{file.format(visit)}_brain_to_MNI.nii.gz")


def _damaged(field):
    """A compressed volume whose header is wrong in one place."""
    volume = nibabel.Nifti1Image(np.ones((4, 4, 8), np.int16), np.eye(4)).to_bytes()
    offset, values = {"size": (42, [30000] * 3), "type": (70, [7777])}[field]
    values = np.array(values, "<i2").tobytes()
    return gzip.compress(volume[:offset] + values + volume[offset + len(values) :])


@pytest.fixture
def biobank(root):
    """Ten participants: complete, complete twice, short, short once, no FLAIR, and one whose file is broken."""
    for person in range(1000000, 1000004):
        _write_ukb(root, person, "2_0", (6, 6))
    _write_ukb(root, 1000004, "2_0", (6, 8))
    _write_ukb(root, 1000004, "3_0", (8, 6))
    _write_ukb(root, 1000005, "2_0", (5, 6))
    _write_ukb(root, 1000005, "3_0", (6, 7))
    _write_ukb(root, 1000006, "2_0", (5, 5))
    _write_ukb(root, 1000007, "2_0", (6, 5))
    _write_ukb(root, 1000008, "2_0", (6, 6))
    (root / "1000008_20253_2_0/T2_FLAIR/T2_FLAIR_brain_to_MNI.nii.gz").write_bytes(b"no image")
    _write_ukb(root, 1000009, "2_0", (6, 6))
    (root / "1000009_20253_2_0/T2_FLAIR/T2_FLAIR_brain_to_MNI.nii.gz").unlink()
    return root


def test_participants_are_counted_at_each_step(biobank, tmp_path, capsys):
    flow = tmp_path / "flow.json"
    datalists.ukb(biobank, tmp_path / "list.json", 2, 1, min_slices=6, consort=str(flow), workers=1)
    assert json.loads(flow.read_text()) == {
        "name": "ukb",
        "layout": "UK Biobank",
        "steps": [
            {"step": "participants", "text": "participants with a scan", "people": 10, "visits": 12, "excluded": []},
            {
                "step": "modalities",
                "text": "with T1 and FLAIR",
                "people": 9,
                "visits": 11,
                "excluded": [{"reason": "without FLAIR", "people": 1}],
            },
            {
                "step": "slices",
                "text": "with 6 slices or more in each",
                "people": 6,
                "visits": 7,
                "excluded": [
                    {"reason": "FLAIR cannot be read", "people": 1},
                    {"reason": "fewer than 6 slices in FLAIR", "people": 1},
                    {"reason": "fewer than 6 slices in T1 and FLAIR", "people": 1},
                ],
                "min_slices": 6,
            },
        ],
        "splits": {
            split: {
                "people": len({subject[:7] for subject in subjects}),
                "visits": len(subjects),
            }
            for split, subjects in _splits(tmp_path / "list.json").items()
        },
    }
    subjects = sorted(chain.from_iterable(_splits(tmp_path / "list.json").values()))
    assert subjects == [f"{person}_2_0" for person in range(1000000, 1000005)] + ["1000004_3_0", "1000005_3_0"]
    printed = capsys.readouterr().out
    assert "left out: 1000005_2_0 has 5 in T1; expected 6 slices with signal\n" in printed
    assert "left out: 1000006_2_0 has 5 in T1, 5 in FLAIR; expected 6 slices with signal\n" in printed
    assert "left out: 1000008_2_0: FLAIR cannot be read\n" in printed
    assert "100000" not in flow.read_text(), "no names of participants"
    assert (tmp_path / "flow.svg").read_text().count("<svg") == 1


def test_the_first_complete_visit_of_each_person_can_be_taken(biobank, tmp_path):
    datalists.ukb(biobank, tmp_path / "list.json", 2, min_slices=6, visits="first", workers=1)
    subjects = sorted(chain.from_iterable(_splits(tmp_path / "list.json").values()))
    assert subjects == [f"{person}_2_0" for person in range(1000000, 1000005)] + ["1000005_3_0"]


def test_each_step_of_the_flow_says_who_went(biobank, tmp_path):
    """The header of one file asks for 54 TB; of the people who remain one visit each is taken."""
    (biobank / "1000000_20252_2_0/T1/T1_brain_to_MNI.nii.gz").write_bytes(_damaged("size"))
    datalists.ukb(biobank, tmp_path / "list.json", 2, min_slices=6, visits="first", consort=tmp_path / "flow.json")
    flow = json.loads((tmp_path / "flow.json").read_text())
    assert flow["steps"][2]["excluded"][:2] == [
        {"reason": "FLAIR cannot be read", "people": 1},
        {"reason": "T1 cannot be read", "people": 1},
    ]
    assert flow["steps"][3] == {
        "step": "visits",
        "text": "the first of these visits of each",
        "people": 5,
        "visits": 5,
        "excluded": [],
    }
    assert sum(split["people"] for split in flow["splits"].values()) == 5


def test_people_in_two_splits_are_counted_so_that_the_sum_is_right(root, tmp_path):
    for person in range(6):
        _add_brats_2023(root, person, 0)
        _add_brats_2023(root, person, 1, mask=person > 3)
    _add_brats_2023(root, 6, 0, mask=False)
    datalists.brats(root, tmp_path / "list.json", validation=2, consort=tmp_path / "flow.json")
    flow = json.loads((tmp_path / "flow.json").read_text())
    assert flow["steps"][-1]["people"] == 7
    assert flow["splits"]["unlabelled"] == {"people": 5, "visits": 5, "shared": 4}
    assert sum(split["people"] - split.get("shared", 0) for split in flow["splits"].values()) == 7
    assert ">4 of them<" in re.sub(r"\s*<", "<", (tmp_path / "flow.svg").read_text())


def test_no_image_is_read_unless_slices_are_asked_for(biobank, tmp_path):
    datalists.ukb(biobank, tmp_path / "list.json", 2, consort=str(tmp_path / "flow.json"))
    subjects = sorted(chain.from_iterable(_splits(tmp_path / "list.json").values()))
    assert len(subjects) == 11
    assert "1000008_2_0" in subjects
    steps = json.loads((tmp_path / "flow.json").read_text())["steps"]
    assert [step["people"] for step in steps] == [10, 9]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_slices": -1}, "min_slices=-1: expected a whole number from 0"),
        ({"min_slices": 2.5}, "min_slices=2.5: expected a whole number from 0"),
        ({"workers": -1}, "workers=-1: expected a whole number from 0"),
        ({"visits": "last"}, "visits=last: expected one of all, first"),
        ({"min_slices": 9}, "no complete subject of UK Biobank"),
    ],
)
def test_bad_options_of_ukb_are_named(biobank, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        datalists.ukb(biobank, tmp_path / "list.json", **{"workers": 1} | options)


def test_who_is_in_no_fold_is_counted(root, tmp_path):
    for number in range(4):
        _add_brats(root, number)
    folds = _write_folds(tmp_path / "folds.json", {f"BraTS2021_{number:05d}": number for number in range(3)})
    datalists.brats(root, tmp_path / "list.json", folds=folds, fold=1, consort=str(tmp_path / "flow.json"))
    assert json.loads((tmp_path / "flow.json").read_text())["splits"] == {
        "training": {"people": 2, "visits": 2},
        "validation": {"people": 1, "visits": 1},
        "testing": {"people": 0, "visits": 0},
        "in no fold": {"people": 1, "visits": 1},
    }


@pytest.fixture
def whole_list(root, tmp_path):
    for number in range(60):
        _add_brats(root, number)
    datalists.brats(root, tmp_path / "whole.json", validation=10, testing=10)
    return str(tmp_path / "whole.json")


def test_the_command_line_takes_a_subset_and_restricts_modalities(whole_list, tmp_path):
    command = ["subset", f"--datalist={whole_list}", "--fraction=0.05", "--seed=2", "--nested", "--modalities=T2,T1ce"]
    for name in ("a", "b"):
        subprocess.run(
            [sys.executable, "-m", "scripts.datalists", *command, f"--output={tmp_path}/{name}.json"],
            cwd=ROOT,
            check=True,
        )
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    before, after = (json.loads(Path(path).read_text()) for path in (whole_list, tmp_path / "a.json"))
    assert after["subset"] == {"fraction": 0.05, "seed": 2, "nested": True, "of": 40}
    assert after["modalities"] == ["T2", "T1ce"]
    assert Counter(len(entry["image"]) for entry in after["training"]) == {2: 2}
    assert [entry["image"] for entry in after["testing"]] == [
        [entry["image"][3], entry["image"][1]] for entry in before["testing"]
    ]
    assert [entry["subject"] for entry in after["validation"]] == [entry["subject"] for entry in before["validation"]]


@pytest.mark.parametrize(
    ("edge", "spacing", "expected"),
    [
        (
            120,
            1.0,
            "by the BraTS organisers: modalities co-registered, SRI24 space, 1 mm, skull stripped; "
            "measured on 2 subjects: voxels of 1 x 1 x 1 mm, brains without skull, background 0",
        ),
        (60, 2.0, "measured on 2 subjects: voxels of 2 x 2 x 2 mm, brains without skull, background 0"),
        (142, 1.0, "measured on 2 subjects: voxels of 1 x 1 x 1 mm, whole heads, background 0"),
    ],
)
def test_what_the_owner_has_done_is_claimed_only_where_the_voxels_agree(edge, spacing, expected, tmp_path):
    head = np.zeros([edge + 4] * 3, np.uint8)
    head[2:-2, 2:-2, 2:-2] = 1
    for number, subject in enumerate(("BraTS2021_00000", "BraTS2021_00001")):
        (tmp_path / "data" / subject).mkdir(parents=True)
        for other, kind in enumerate(("flair", "t1ce", "t1", "t2", "seg")):
            head[3, 3, 3] = 2 + 5 * number + other  # so that none is a copy
            image = nibabel.Nifti1Image(head, np.diag([spacing] * 3 + [1]))
            nibabel.save(image, tmp_path / "data" / subject / f"{subject}_{kind}.nii.gz")
    datalists.brats(tmp_path / "data", tmp_path / "list.json", testing="all")
    assert json.loads((tmp_path / "list.json").read_text())["preparation"] == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "nothing to do; expected --fraction, --modalities or both"),
        ({"fraction": 0}, "fraction=0: expected a number above 0, up to 1"),
        ({"fraction": "5%"}, "fraction=5%: expected a number above 0"),
        ({"fraction": 0.5, "seed": -1}, "seed=-1: expected a whole number"),
        ({"fraction": 0.5, "nested": "maybe"}, "nested=maybe: expected true or false"),
        ({"modalities": "T1,T9"}, "modality T9: not in .*, which has FLAIR, T1ce, T1, T2"),
        ({"modalities": ("T1", "T1")}, r"--modalities=T1,T1: .* --modalities \"\['T1','T1'\]\""),
        ({"modalities": 5}, "--modalities=5: expected names, such as FLAIR,T1ce,T1,T2"),
        ({"modalities": True}, "--modalities=True: expected names"),
        ({"datalist": "/no/such.json", "fraction": 0.5}, "/no/such.json: No such file"),
    ],
)
def test_bad_options_of_subset_are_named(whole_list, tmp_path, options, message):
    with pytest.raises(InputError, match=message) as error:
        datalists.subset(**{"datalist": whole_list, "output": tmp_path / "part.json"} | options)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "part.json").exists()


def test_a_subset_does_not_replace_what_it_is_taken_from(whole_list, tmp_path):
    before = Path(whole_list).read_bytes()
    (tmp_path / "link.json").symlink_to(whole_list)
    for output in (whole_list, tmp_path / "link.json", f"{tmp_path}/cohort/../whole.json"):
        with pytest.raises(InputError, match=f"--output={output}: expected another file than --datalist"):
            datalists.subset(whole_list, output, fraction=0.5)
    assert Path(whole_list).read_bytes() == before


@pytest.mark.parametrize("command", ["ukb", "brats", "atlas", "generic", "subset"])
def test_bad_input_ends_the_command_line_in_one_line_with_status_2(tmp_path, command):
    source = "--datalist" if command == "subset" else "--root"
    result = subprocess.run(
        [sys.executable, "-m", "scripts.datalists", command, f"{source}=/no/such", f"--output={tmp_path}/list.json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "/no/such: No such file or directory; expected" in result.stderr


COMMANDS = [datalists.ukb, datalists.brats, datalists.atlas, datalists.generic, datalists.fold, datalists.subset]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_all_that_the_docstring_says(command):
    """python-fire takes a colon in a continued line for another argument, and drops the line."""
    described = command.__doc__.split("Args:\n")[1]
    for paragraph in re.split(r"\n        (?=\w+: )", "\n" + described)[1:]:
        assert ":" not in paragraph.split(":", 1)[1], paragraph


@pytest.mark.slow
def test_the_participants_of_the_embedded_cohort_are_those_that_were_made(tmp_path):
    """Six people, the first of them twice; two have 80 mm of brain at their first visit, two no FLAIR; 4 mm a slice."""
    odd = {"too_few_slices": 2, "without_flair": 2, "second_visits": 1}
    make("ukb", 6, tmp_path / "ukb", spacing=4, workers=1, **odd)
    options = {"testing": "all", "min_slices": 25, "consort": tmp_path / "flow.json", "workers": 1}
    datalists.ukb(tmp_path / "ukb", tmp_path / "list.json", **options)
    flow = json.loads((tmp_path / "flow.json").read_text())
    assert [(step["people"], step["visits"]) for step in flow["steps"]] == [(6, 7), (4, 5), (3, 3)]
    assert [step["excluded"] for step in flow["steps"]] == [
        [],
        [{"reason": "without FLAIR", "people": 2}],
        [{"reason": "fewer than 25 slices in T1 and FLAIR", "people": 1}],
    ]


def test_an_earlier_datalist_with_other_content_is_kept(root, tmp_path, capsys):
    _add_atlas(root, 3)
    datalists.atlas(root, tmp_path / "list.json", testing="all")
    first = (tmp_path / "list.json").read_bytes()
    datalists.atlas(root, tmp_path / "list.json", testing="all")
    assert sorted(path.name for path in tmp_path.glob("*.json")) == ["list.json"]
    assert "replaced" not in capsys.readouterr().out
    _add_atlas(root, 4)
    datalists.atlas(root, tmp_path / "list.json", testing="all")
    (kept,) = tmp_path.glob("list-*.json")
    assert kept.read_bytes() == first != (tmp_path / "list.json").read_bytes()
    told = f"{tmp_path}/list.json: replaced; the earlier one, with other content, is {kept}"
    assert capsys.readouterr().out.splitlines()[0] == told
