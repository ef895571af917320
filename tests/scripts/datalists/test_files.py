"""Writing datalists, and subsets of them."""

import json

import pytest

from common.data import datalists
from common.errors import InputError
from scripts.datalists.files import write
from scripts.datalists.splits import subset

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
    write(CONTENT, path)
    first = path.read_bytes()
    write(CONTENT, path)
    assert datalists.read(path) == CONTENT
    assert path.read_bytes() == first
    assert list(path.parent.iterdir()) == [path]
    assert b'"regions"' in first
    with pytest.raises(InputError, match="the same file as an input"):
        write(CONTENT, path, path)
    path.write_text("no JSON")
    with pytest.raises(InputError):
        write(CONTENT, path)


def draw(folder, count, *options, turned=False):
    """A datalist of numbered subjects, and its subset."""
    entries = [{"subject": f"s{n}", "image": [f"s{n}/a.nii.gz"]} for n in range(count)][:: -1 if turned else 1]
    held_out = [{"subject": f"h{n}", "image": [f"h{n}/a.nii.gz"]} for n in range(3)]
    head = {"name": "toy", "modalities": ["T1"], "label_convention": None}
    content = head | {"training": entries, "testing": held_out}
    (folder / "list.json").write_text(json.dumps(content))
    subset(str(folder / "list.json"), str(folder / "part.json"), *options)
    return content, datalists.read(folder / "part.json")


def test_a_subset_leaves_the_rest_and_has_at_least_one_subject(tmp_path):
    content, part = draw(tmp_path, 1000, 0.4, 3)
    assert part["subset"] == {"fraction": 0.4, "seed": 3, "nested": False, "of": 1000}
    assert [entry for entry in content["training"] if entry in part["training"]] == part["training"]
    assert (len(part["training"]), part["testing"], [*part][-2:]) == (400, content["testing"], ["training", "testing"])
    with pytest.raises(InputError, match="already a subset"):
        subset(str(tmp_path / "part.json"), str(tmp_path / "again.json"), 0.4)
    assert len(draw(tmp_path, 3, 0.05)[1]["training"]) == 1


@pytest.mark.parametrize("turned", [False, True])
def test_the_choice_is_the_one_that_sha256_gives_in_whatever_order_the_subjects_are(tmp_path, turned):
    """From `for n in 0 1 2 3 4 5; do echo $(printf 7/0.5/s$n | sha256sum) s$n; done | sort`; nested with 7/s$n."""
    for nested, expected in ((False, {"s3", "s2", "s5"}), (True, {"s2", "s4", "s5"})):
        _, part = draw(tmp_path, 6, 0.5, 7, nested, turned=turned)
        assert {entry["subject"] for entry in part["training"]} == expected
