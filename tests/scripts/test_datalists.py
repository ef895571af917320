import json
from itertools import chain

import pytest

from common.preflight import InputError
from scripts import datalists

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


def _add_atlas(root, number):
    name = f"sub-r{number:03d}s001"
    stem = f"{name}/ses-1/anat/{name}_ses-1_space-MNI152NLin2009aSym"
    _touch(root, f"{stem}_T1w.nii.gz", f"{stem}_label-L_desc-T1lesion_mask.nii.gz")


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "cohort"
    folder.mkdir()
    return folder


def _splits(path):
    content = json.loads(path.read_text())
    return {split: [entry["subject"] for entry in content[split]] for split in ("training", "validation", "testing")}


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
    command(root, tmp_path / "list.json", validation=0)
    content = json.loads((tmp_path / "list.json").read_text())
    assert content == {
        "name": command.__name__,
        "modalities": MODALITIES[command.__name__],
        "label_convention": {"ukb": None, "brats": "brats2021", "atlas": "atlas"}[command.__name__],
        "training": [expected],
        "validation": [],
        "testing": [],
    }


def test_subjects_that_lack_a_file_are_told_and_left_out(root, tmp_path, capsys):
    for number in range(4):
        _add_brats(root, number)
    (root / "BraTS2021_00001/BraTS2021_00001_t1ce.nii.gz").unlink()
    (root / "BraTS2021_00002/BraTS2021_00002_t2.nii.gz").unlink()
    (root / "BraTS2021_00002/BraTS2021_00002_seg.nii.gz").unlink()
    datalists.brats(root, tmp_path / "list.json", validation=1)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "left out: BraTS2021_00001 lacks T1ce",
        "left out: BraTS2021_00002 lacks T2, label",
        f"{tmp_path}/list.json: 1 training, 1 validation, 0 testing",
    ]
    splits = _splits(tmp_path / "list.json")
    assert sorted(splits["training"] + splits["validation"]) == ["BraTS2021_00000", "BraTS2021_00003"]


def test_a_modality_without_its_partner_is_told(root, tmp_path, capsys):
    _add_ukb(root, 1000012)
    _touch(root, "1000049_20253_2_0/T2_FLAIR/T2_FLAIR_brain_to_MNI.nii.gz")
    datalists.ukb(root, tmp_path / "list.json", validation=0)
    assert "left out: 1000049_2_0 lacks T1\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("validation", "testing", "sizes"),
    [(0, 0, (20, 0, 0)), (0.1, 0, (18, 2, 0)), (3, 5, (12, 3, 5)), (0.25, 0.5, (5, 5, 10)), (0.001, 0.0, (19, 1, 0))],
)
def test_splits_have_the_size_asked_for_and_share_nobody(root, tmp_path, validation, testing, sizes):
    for number in range(20):
        _add_atlas(root, number)
    datalists.atlas(root, tmp_path / "list.json", validation, testing)
    splits = _splits(tmp_path / "list.json")
    assert tuple(len(members) for members in splits.values()) == sizes
    assert sorted(chain.from_iterable(splits.values())) == [f"sub-r{number:03d}s001" for number in range(20)]
    assert all(members == sorted(members) for members in splits.values())


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
        ({"validation": -1}, "--validation=-1: expected a number of people, or a fraction"),
        ({"validation": 1.5}, "--validation=1.5: expected"),
        ({"testing": True}, "--testing=True: expected"),
        ({"testing": "some"}, "--testing=some: expected"),
        ({"validation": 2, "testing": 2}, "--validation=2 --testing=2: nobody is left for training; .* the 4 people"),
        ({"seed": -1}, "--seed=-1: expected a whole number from 0"),
        ({"root": "/no/such"}, "--root=/no/such: No such file or directory; expected the folder of the brats cohort"),
    ],
)
def test_bad_options_are_named(root, tmp_path, options, message):
    for number in range(4):
        _add_brats(root, number)
    with pytest.raises(InputError, match=message):
        datalists.brats(**{"root": root, "output": tmp_path / "list.json"} | options)
    assert not (tmp_path / "list.json").exists()


def test_a_root_without_a_subject_is_named_with_what_was_expected(root, tmp_path):
    _add_brats(root, 0)
    with pytest.raises(
        InputError, match=r"no complete subject of ukb; .* PERSON_20252_VISIT/T1/T1_brain_to_MNI.nii.gz"
    ):
        datalists.ukb(root, tmp_path / "list.json")
