"""Who is in which split of a datalist; `test_hold_out` has folds."""

import pytest

from common.errors import InputError
from tests.scripts.datalists.cohorts import (
    add_atlas,
    add_brats_2023,
    add_ukb,
    atlas,
    brats,
    everybody,
    people,
    sizes,
    subjects,
    ukb,
    written,
)


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
    expected = r"^--validation=1: leaves 1 of 5 people to select the checkpoint; need 2, or --testing=all for"
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


def test_subjects_without_mask_are_kept_apart(root, capsys):
    add_atlas(root, *range(6), above="Training/R{:03d}/")
    add_atlas(root, *range(6, 10), above="Testing/R{:03d}/", mask=False)
    content = written(atlas, root, validation=1, testing=2)
    told = "visits without a label map, in the split unlabelled: 4, such as sub-r006s001\n"
    assert told in capsys.readouterr().out
    assert all("label" in entry for split in ("training", "validation", "testing") for entry in content[split])
    assert sizes(subjects(content)) == [3, 1, 2, 4]
    assert content["unlabelled"][0].keys() == {"subject", "image"}
