"""`--crops_per_volume`: several crops of each volume that is read, all in one batch."""

import json
from itertools import islice

import nibabel
import numpy as np
import pytest

from tests.bundles.workflows import PATCH, workflow

SHAPES = {"a": (40, 42, 74), "b": (45, 40, 71), "c": (42, 46, 70), "v": (40, 42, 74)}  # voxels
NAMES = ["T1", "FLAIR"]


def volume(shape, channel):
    """Each voxel has a value of its own; the order of the values differs between channels and shapes."""
    return np.arange(1, np.prod(shape) + 1, dtype=np.float32).reshape(shape, order="CF"[channel])


def scored(shape, channel):
    values = volume(shape, channel).astype(np.float64)
    return (values - values.mean()) / values.std()


@pytest.fixture
def batches(tmp_path):
    """Reads the first training batches on three subjects; all bundles have the same transforms: test_configs.py."""
    entries = {}
    for subject, shape in SHAPES.items():
        entries[subject] = {"subject": subject, "image": [f"{subject}_{name}.nii.gz" for name in NAMES]}
        for channel, file in enumerate(entries[subject]["image"]):
            voxels = volume(shape, channel)
            nibabel.save(nibabel.Nifti1Image(voxels[::-1] if subject == "v" else voxels, np.eye(4)), tmp_path / file)
    content = {"name": "made", "modalities": NAMES, "label_convention": None, "validation": [entries.pop("v")]}
    (tmp_path / "list.json").write_text(json.dumps(content | {"training": [*entries.values()], "testing": []}))
    options = {"dataset_dir": str(tmp_path), "datalist": str(tmp_path / "list.json"), "patch_size": PATCH}

    def batches(count, **more):
        given = options | {"global_batch_size": "null"} | more
        started = workflow("ukb_ssl_pretrain", "train", tmp_path, tmp_path / "eval", **given)
        return list(islice(started.parser.get_parsed_content("train::dataloader"), count))

    return batches


def place_of(crop, shape):
    """Where a crop starts in its volume, after a check that all its voxels are those of the volume there."""
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
