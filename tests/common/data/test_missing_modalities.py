"""Missing modalities, from the files to the network's crop."""

from collections import Counter
from itertools import combinations

import nibabel
import numpy as np
import pytest
import torch
from monai.transforms import Compose, RandShiftIntensityd
from scipy.stats import chisquare

from common.data.datasets import CaseDataset, Draw
from common.data.intensities import NormalizeBraind
from common.data.transforms import LoadScand, RandModalityDropoutd

MODALITIES = ["FLAIR", "T1ce", "T1", "T2"]
AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])


@pytest.fixture
def files(tmp_path):
    """Write an image per modality, a block of positive noise in zeros; return the paths."""
    paths = []
    for number, name in enumerate(MODALITIES):
        voxels = np.zeros((6, 7, 8), np.float32)
        voxels[1:-1, 1:-1, 1:-1] = np.random.default_rng(number).uniform(1, 9, (4, 5, 6))
        paths.append(str(tmp_path / f"P_{name}.nii.gz"))
        nibabel.save(nibabel.Nifti1Image(voxels, AFFINE), paths[-1])
    return paths


def without(files, *channels):
    return [None if number in channels else file for number, file in enumerate(files)]


@pytest.mark.parametrize("missing", [(0,), (1, 2, 3)])
def test_a_missing_modality_is_a_channel_of_zeros_on_the_grid_of_the_others(files, missing):
    whole = LoadScand("image")({"image": files})["image"]
    image = LoadScand("image")({"image": without(files, *missing)})["image"]
    present = [channel for channel in range(4) if channel not in missing]
    assert torch.equal(image[present].as_tensor(), whole[present].as_tensor())
    assert not image[list(missing)].any()
    np.testing.assert_array_equal(image.affine, AFFINE)
    assert image.meta["filename_or_obj"] == files[present[0]]


def crops(files, prob, cases):
    """Return crops as in training: normalised, shifted, with modality dropout; each with a seed."""
    transform = Compose(
        [
            LoadScand("image"),
            NormalizeBraind("image"),
            RandShiftIntensityd("image", offsets=0.1, prob=1.0),
            RandModalityDropoutd("image", prob=prob),
        ]
    )
    data = CaseDataset([{"subject": "P", "image": files}], transform, cache_rate=1.0)
    return [data[Draw(0, seed)]["image"] for seed in range(cases)]


def test_what_is_missing_is_zero_for_the_network_in_training_too(files):
    for image in crops(without(files, 1, 3), prob=0.0, cases=3):
        assert not image[[1, 3]].any()
        assert image[[0, 2]].flatten(1).all(dim=1).all(), "a shift moves the background of the others"
    remaining = {tuple(image.flatten(1).any(dim=1).tolist()) for image in crops(without(files, 1, 3), 1.0, 40)}
    assert remaining == {(True, False, False, False), (False, False, True, False)}


def test_all_subsets_but_the_whole_and_the_empty_one_remain_equally_often():
    dropout = RandModalityDropoutd("image", prob=1.0).set_random_state(seed=0)
    image = torch.ones(4, 1, 1, 1)
    counts = Counter(tuple(dropout({"image": image})["image"].flatten().int().tolist()) for _ in range(2800))
    subsets = {tuple(int(c in kept) for c in range(4)) for count in (1, 2, 3) for kept in combinations(range(4), count)}
    assert counts.keys() == subsets
    assert chisquare(list(counts.values())).pvalue > 1e-3
    assert image.all(), "the cached volume stays whole"
