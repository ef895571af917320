"""z-scores over the brain, compared with geometric bodies and the anatomy of synthetic scans."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import NormalizeIntensityd

from common.data.intensities import NormalizeBraind, brain_and_head
from scripts.cohorts import COHORTS
from scripts.phantoms.cohort import grid_of
from scripts.phantoms.heads import HEADS, SEQUENCES, scan

SPACING = 3.0  # mm


class Scan(NamedTuple):
    """A scan, its brain, and the healthy grey and white matter in it, all [x, y, z]."""

    modality: str
    image: np.ndarray
    brain: np.ndarray
    tissue: np.ndarray


def scans(layout, skull_stripped, spacing, seed):
    """Yield the scans of a synthetic subject with their anatomy."""
    rng = np.random.default_rng(seed)
    head = HEADS[COHORTS[layout].head](rng, grid_of(COHORTS[layout], spacing), skull_stripped)
    brain, tissue = (np.zeros(head.grid.shape, bool) for _ in range(2))
    brain[head.inside] = head.depth > 0
    tissue[head.inside] = (head.fractions["GM"] + head.fractions["WM"] > 0.8) & (head.labels == 0) & (head.depth > 0)
    for modality in COHORTS[layout].modalities:
        yield Scan(modality, scan(rng, head, SEQUENCES[modality], 0.25).round(), brain, tissue)


def dice(first, second):
    return 2 * (first & second).sum() / (first.sum() + second.sum())


@pytest.fixture(scope="module")
def head():
    """Return a synthetic head at 3 mm in noisy air, and its brain mask."""
    case = next(scans("atlas", False, SPACING, (0, 0)))
    air = np.random.default_rng(0).uniform(1, 4, case.image.shape)
    return (case.image + air).astype(np.float32), case.brain


def test_an_image_without_skull_gets_the_z_score_of_its_voxels_to_the_bit():
    stripped = torch.tensor(np.stack([case.image for case in scans("ukb", True, 4.0, (0, 0))]))
    assert 0.1 < (stripped != 0).float().mean() < 0.5
    image = MetaTensor(stripped, affine=torch.diag(torch.tensor([4.0, 4, 4, 1])))
    result = NormalizeBraind("image")({"image": image.clone()})["image"]
    monai = NormalizeIntensityd("image", nonzero=True, channel_wise=True)({"image": image.clone()})["image"]
    assert torch.equal(result, monai)


@pytest.mark.parametrize("change", ["air", "spikes", "turned", None])
def test_the_brain_is_found_whatever_air_outliers_and_orientation_are(head, change):
    image, brain = head[0].copy(), head[1]
    if change == "air":
        image[image < 5] = 0
    elif change == "spikes":
        image[::7, ::11, ::13] = 1e5
    elif change == "turned":
        image, brain = image.transpose(2, 0, 1)[::-1].copy(), brain.transpose(2, 0, 1)[::-1]
    assert dice(brain_and_head(torch.tensor(image), [SPACING] * 3)[0].numpy(), brain) > (0.95 if change else 0.97)


def test_air_becomes_background_and_bone_does_not():
    """Concentric balls in noisy air: brain with ventricles, bone and scalp."""
    radius = SPACING * np.sqrt(sum((axis - 29.5) ** 2 for axis in np.indices((60, 60, 60))))  # mm
    image = np.zeros(radius.shape, np.float32)
    for outer, value in ((88, 130), (74, 8), (66, 100), (12, 15)):  # mm; scalp, bone, brain, ventricles
        image[radius < outer] = value
    image += np.random.default_rng(0).uniform(1, 4, radius.shape).astype(np.float32)
    image[:5] = 0
    data = {"image": MetaTensor(torch.tensor(image)[None], affine=torch.diag(torch.tensor([*[SPACING] * 3, 1])))}
    z = NormalizeBraind("image")(data)["image"][0].numpy()
    assert not z[:5].any()
    assert not z[radius > 94].any(), "air, at least two voxels from the skin"
    assert z[10:][radius[10:] < 80].all(), "bone and fluid are no background"


@pytest.mark.parametrize("layout", ["atlas", "ukb", "brats"])
def test_tissue_has_the_scale_of_the_true_brain_in_heads_of_every_contrast(layout):
    for case in scans(layout, False, SPACING, (1, 0)):
        brain = brain_and_head(torch.tensor(case.image), [SPACING] * 3)[0].numpy()
        mine, true, every = (case.image[mask] for mask in (brain, case.brain, case.image != 0))
        tissue = case.image[case.tissue].mean()
        expected = (tissue - true.mean()) / true.std()
        assert (tissue - mine.mean()) / mine.std() == pytest.approx(expected, abs=0.2), case.modality
        assert mine.std() == pytest.approx(true.std(), rel=0.3), case.modality
        assert (tissue - every.mean()) / every.std() > expected + 0.5, "otherwise this test shows nothing"


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_a_channel_of_one_value_becomes_zero(value):
    image = torch.full((1, 20, 20, 20), value)
    assert not NormalizeBraind("image")({"image": image})["image"].any()
    large = MetaTensor(torch.full((1, 40, 40, 40), value), affine=torch.diag(torch.tensor([4.0, 4, 4, 1])))
    assert not NormalizeBraind("image")({"image": large})["image"].any()
