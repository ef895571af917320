"""Writing datalists, and subsets of them."""

import pytest

from common.data import datalists
from common.errors import InputError
from scripts.datalists.files import draw_subset, output_file, write

CONTENT = {
    "name": "Köln 東京 😀",
    "modalities": ["FLAIR", "T1"],
    "label_convention": "whole=1+2,core=1:d1495b:6574001 SCT Necrosis,cavity=7",
    "folds": {"fold": 0, "of": 5, "split": "validation", "source": "folds.json", "sha256": "0" * 64},
    "training": [{"subject": "é" * 100, "image": ["b/flair.nii.gz", None], "label": "b/mask..v2.nii.gz"}],
    "validation": [],
    "unlabelled": [{"subject": "u", "image": ["u/flair.nii.gz", "u/t1.nii.gz"]}],
}


def test_writing_gives_what_reading_takes_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "new" / "toy.json"
    part = draw_subset(CONTENT, 1)
    write(part, path)
    first = path.read_bytes()
    write(part, path)
    assert datalists.read(path) == part
    assert list(part)[-3:] == ["training", "validation", "unlabelled"]
    assert path.read_bytes() == first
    assert list(path.parent.iterdir()) == [path]
    assert b'"regions"' in first
    assert output_file(str(path)) == path
    with pytest.raises(InputError, match="the same file as an input"):
        output_file(str(path), path)
    path.write_text("no JSON")
    with pytest.raises(InputError):
        output_file(str(path))


def _numbered(count):
    entries = [{"subject": f"s{n}", "image": [f"s{n}/a.nii.gz"]} for n in range(count)]
    held_out = [{"subject": f"h{n}", "image": [f"h{n}/a.nii.gz"]} for n in range(3)]
    return {"name": "toy", "modalities": ["T1"], "label_convention": None, "training": entries, "testing": held_out}


def _subjects(content):
    return {entry["subject"] for entry in content["training"]}


@pytest.mark.parametrize(("count", "fraction", "size"), [(1000, 0.4, 400), (3, 0.05, 1), (5, 1, 5)])
def test_a_subset_has_the_size_asked_for_and_leaves_the_rest(count, fraction, size):
    content = _numbered(count)
    part = draw_subset(content, fraction, 3)
    assert content == _numbered(count)
    assert len(part["training"]) == size
    assert part["subset"] == {"fraction": fraction, "seed": 3, "nested": False, "of": count}
    assert [entry for entry in content["training"] if entry in part["training"]] == part["training"]
    assert part["testing"] == content["testing"]
    with pytest.raises(InputError, match="already a subset"):
        draw_subset(part, fraction)


def test_the_choice_is_the_one_that_sha256_gives_in_whatever_order_the_subjects_are():
    """From `for n in 0 1 2 3 4 5; do echo $(printf 7/0.5/s$n | sha256sum) s$n; done | sort`; nested with 7/s$n."""
    content = _numbered(6)
    for entries in (content["training"], content["training"][::-1]):
        turned = {**content, "training": entries}
        assert _subjects(draw_subset(turned, 0.5, 7)) == {"s3", "s2", "s5"}
        assert _subjects(draw_subset(turned, 0.5, 7, nested=True)) == {"s2", "s4", "s5"}
