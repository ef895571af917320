"""Random crops: `--crops_per_volume` from each volume, in the same batch; the same crops in each validation."""

import json
from itertools import islice

import nibabel
import numpy as np
import pytest

from tests.bundles.workflows import PATCH, workflow

SHAPES = {"a": (40, 42, 74), "b": (45, 40, 71), "c": (42, 46, 70)}  # voxels
HELD_OUT = {"v": (48, 50, 90), "w": (49, 50, 91), "x": (50, 48, 92), "y": (50, 49, 93)}
NAMES = ["T1", "FLAIR"]


def volume(shape, channel):
    """A volume without equal voxels; the order of the values differs between channels and shapes."""
    return np.arange(1, np.prod(shape) + 1, dtype=np.float32).reshape(shape, order="CF"[channel])


def scored(shape, channel):
    values = volume(shape, channel).astype(np.float64)
    inside = values > values.min()  # the lowest value is background, which becomes 0
    return np.where(inside, (values - values[inside].mean()) / values[inside].std(), 0)


@pytest.fixture
def batches(tmp_path):
    """Function: the first batches of a training on these subjects; test_configs.py compares the bundles' transforms."""
    entries = {}
    for subject, shape in (SHAPES | HELD_OUT).items():
        entries[subject] = {"subject": subject, "image": [f"{subject}_{name}.nii.gz" for name in NAMES]}
        for channel, file in enumerate(entries[subject]["image"]):
            nibabel.save(nibabel.Nifti1Image(volume(shape, channel), np.eye(4)), tmp_path / file)
    content = {"name": "made", "modalities": NAMES, "label_convention": None, "testing": []}
    splits = {"training": [entries[name] for name in SHAPES], "validation": [entries[name] for name in HELD_OUT]}
    (tmp_path / "list.json").write_text(json.dumps(content | splits))
    options = {"dataset_dir": str(tmp_path), "datalist": str(tmp_path / "list.json"), "patch_size": PATCH}
    options["normalization"] = "nonzero"  # no voxel is background

    def batches(count, split="train", **more):
        given = options | {"global_batch_size": "null"} | more
        started = workflow("ukb_ssl_pretrain", "train", tmp_path, tmp_path / "eval", **given)
        loader = started.parser.get_parsed_content(f"{split}::dataloader")
        return list(islice(loader, count)) if split == "train" else [list(loader) for _ in range(count)]

    return batches


def place_of(crop, shape):
    """The crop's start in its volume (voxels); asserts that all voxels of the crop equal the volume's there."""
    whole = np.stack([scored(shape, channel) for channel in range(len(crop))])
    start = np.argwhere(np.isclose(whole[0], crop[0, 0, 0, 0], rtol=0, atol=1e-6))[0]
    block = whole[(slice(None), *(slice(at, at + edge) for at, edge in zip(start, PATCH, strict=True)))]
    np.testing.assert_allclose(crop, block, rtol=0, atol=1e-5)
    return tuple(start.tolist())


def test_a_batch_has_two_crops_of_each_of_two_volumes(batches):
    read = []
    for batch in batches(6, batch_size=4, crops_per_volume=2):
        assert batch["image"].shape == (4, len(NAMES), *PATCH)
        one, same, other, same_as_other = batch["subject"]
        assert (one, other) == (same, same_as_other)
        read += [one, other]
        crops = zip(batch["subject"], batch["image"].numpy(), strict=True)
        places = [place_of(crop, SHAPES[subject]) for subject, crop in crops]
        assert places[0] != places[1]
        assert places[2] != places[3]
    assert all(sorted(read[start : start + 3]) == ["a", "b", "c"] for start in range(0, 12, 3)), "each once in a pass"


@pytest.mark.parametrize("crops", [1, 2])
def test_each_validation_sees_the_same_random_crops(batches, crops):
    def places(validation):
        crops = [each for batch in validation for each in zip(batch["subject"], batch["image"], strict=True)]
        return [(name, place_of(crop.numpy(), HELD_OUT[name])) for name, crop in crops]

    first, second = batches(2, "validate", crops_per_volume=crops)
    assert [len(batch["subject"]) for batch in first] == ([2, 2] if crops == 1 else [2] * 4)
    assert places(first) == places(second)
    assert len({place for _, place in places(first)}) == crops * len(HELD_OUT), "not one place, such as the centre"
    (workers,) = batches(1, "validate", crops_per_volume=crops, num_workers=2)
    assert places(workers) == places(first)
    (other,) = batches(1, "validate", crops_per_volume=crops, seed=1)
    assert places(other) != places(first)
