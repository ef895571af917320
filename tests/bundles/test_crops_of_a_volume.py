"""`--crops_per_volume`: several crops of each volume that is read, all in one batch."""

import json
from collections import Counter
from itertools import islice

import nibabel
import numpy as np
import pytest
import torch

from common.ssl.losses import NTXentLoss
from common.ssl.views import TwoViews
from tests.bundles.workflows import SSL, workflow
from tests.oracles.contrastive import nt_xent
from tests.support import MODALITIES

EDGE = 64
SHAPES = {"a": (70, 72, 74), "b": (75, 70, 71), "c": (72, 76, 70)}  # voxels
START = {"warmup_iterations": 1, "num_workers": 0, "patch_size": [EDGE] * 3, "global_batch_size": "null"}


def volume(shape, channel):
    """Each voxel has a value of its own; the order of the values differs between channels and shapes."""
    first = 1 + channel // 2
    return np.arange(first, np.prod(shape) + first, dtype=np.float32).reshape(shape, order="CF"[channel % 2])


def scored(shape, channel):
    values = volume(shape, channel).astype(np.float64)
    return (values - values.mean()) / values.std()


@pytest.fixture
def batches(tmp_path):
    """Reads the first training batches of a bundle on three subjects."""

    def batches(bundle, count, **options):
        names = MODALITIES[bundle]
        entries = []
        for subject, shape in SHAPES.items():
            files = [f"{subject}_{name}.nii.gz" for name in names]
            for channel, file in enumerate(files):
                nibabel.save(nibabel.Nifti1Image(volume(shape, channel), np.eye(4)), tmp_path / file)
            entries.append({"subject": subject, "image": files})
        content = {"name": "made", "modalities": names, "label_convention": None}
        for number, name in enumerate(names):
            validated = nibabel.Nifti1Image(np.flip(volume(SHAPES["a"], number)), np.eye(4))
            nibabel.save(validated, tmp_path / f"v_{name}.nii.gz")
        held_out = {"subject": "v", "image": [f"v_{name}.nii.gz" for name in names]}
        content |= {"training": entries, "validation": [held_out], "testing": []}
        (tmp_path / "list.json").write_text(json.dumps(content))
        places = {"dataset_dir": str(tmp_path), "datalist": str(tmp_path / "list.json")}
        started = workflow(bundle, "train", "train", tmp_path, tmp_path / "eval", **places, **START, **options)
        return list(islice(started.parser.get_parsed_content("train::dataloader"), count))

    return batches


def place_of(crop, shape):
    """Where a crop starts in its volume, after a check that all its voxels are those of the volume there."""
    whole = np.stack([scored(shape, channel) for channel in range(len(crop))])
    start = np.argwhere(np.isclose(whole[0], crop[0, 0, 0, 0], rtol=0, atol=1e-6))[0]
    block = whole[(slice(None), *(slice(at, at + EDGE) for at in start))]
    np.testing.assert_allclose(crop, block, rtol=0, atol=1e-5)
    return tuple(start.tolist())


@pytest.mark.parametrize("bundle", SSL)
def test_a_batch_has_two_crops_of_each_of_two_volumes(batches, bundle):
    found = batches(bundle, 6, batch_size=4, crops_per_volume=2)
    read = []
    for batch in found:
        assert batch["image"].shape == (4, len(MODALITIES[bundle]), EDGE, EDGE, EDGE)
        one, same, other, same_as_other = batch["subject"]
        assert (one, other) == (same, same_as_other)
        read += [one, other]
        crops = zip(batch["subject"], batch["image"].numpy(), strict=True)
        places = [place_of(crop, SHAPES[subject]) for subject, crop in crops]
        assert places[0] != places[1]
        assert places[2] != places[3]
    assert all(sorted(read[start : start + 3]) == ["a", "b", "c"] for start in range(0, 12, 3)), (
        "a pass reads each once"
    )


def test_by_default_each_volume_gives_one_crop(batches):
    found = batches("atlas_stage2", 3, batch_size=2)
    subjects = [subject for batch in found for subject in batch["subject"]]
    assert all(sorted(subjects[start : start + 3]) == ["a", "b", "c"] for start in (0, 3))


def test_crops_of_a_volume_are_negatives_of_each_other(batches):
    """Four crops make eight views; each has its positive and six negatives, two of them from its own volume."""
    (batch,) = batches("atlas_stage2", 1, batch_size=4, crops_per_volume=2)
    assert list(Counter(batch["subject"]).values()) == [2, 2]
    views, _ = TwoViews(seed=0)(batch)
    assert len(views) == 8
    embeddings = torch.nn.functional.adaptive_avg_pool3d(views, 2).flatten(1).double()
    expected = nt_xent(embeddings.tolist(), 0.5)
    assert NTXentLoss(0.5)(embeddings).item() == pytest.approx(expected, rel=1e-9)
    equal = NTXentLoss(0.5)(torch.ones_like(embeddings)).item()
    assert equal == pytest.approx(np.log(1 + 6), rel=1e-9)  # views that are all alike: one of 1 positive + 6 negatives
