"""The random transforms of the fine-tuning on ATLAS, against SciPy's own rotation of the whole volume (DIFF-18)."""

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import RandRotated
from scipy import ndimage
from scipy.spatial.transform import Rotation

from tests.bundles.workflows import config

PATCH = 32  # voxels
SHAPE = (72, 80, 64)  # voxels


def case(shape=SHAPE, seed=0):
    """A smooth image and a lesion of random outline around its middle."""
    noise = np.random.default_rng(seed).normal(size=(2, *shape))
    image, outline = (10 + 100 * ndimage.gaussian_filter(each, 3) for each in noise)
    distance = np.sqrt(sum((axis - size / 2) ** 2 for axis, size in zip(np.indices(shape), shape, strict=True)))
    lesion = distance * np.exp(0.02 * (outline - 10)) < 7
    return {"image": image.astype(np.float32), "label": lesion.astype(np.float32)}


def draw(volumes, seed, flip=0.0, turn=0.0):
    """A crop around a voxel of the lesion, flipped and turned with these probabilities, and the rotation."""
    content = config("atlas_finetune") | {"patch_size": [PATCH] * 3, "deterministic_transforms": []}
    changes = {"RandCropByPosNegLabeld": {"neg": 0}, "RandFlipd": {"prob": flip}, "RandRotated": {"prob": turn}}
    for step in content["train"]["random_transforms"]:
        step.update(changes.get(step["_target_"], {}))
    compose = ConfigParser(content).get_parsed_content("train::preprocessing").set_random_state(seed=seed)
    (result,) = compose({key: MetaTensor(torch.tensor(value)[None]) for key, value in volumes.items()})
    (rotation,) = (step.rand_rotate for step in compose.transforms if isinstance(step, RandRotated))
    return result, rotation


def turned(volume, centre, angles, order):
    """The crop around a position (voxels), rotated by angles (radians), interpolated by SciPy in the whole volume."""
    turn = Rotation.from_euler("XYZ", angles).as_matrix()
    offset = centre - turn @ np.full(3, (PATCH - 1) / 2)
    return ndimage.affine_transform(volume, turn, offset, (PATCH,) * 3, order=order, mode="grid-constant")


@pytest.mark.parametrize(("seed", "flip"), [(0, 0), (1, 1)])
def test_a_turned_crop_is_what_scipy_reads_from_the_whole_volume(seed, flip):
    volumes = case(seed=seed)
    plain, _ = draw(volumes, seed)
    centre = plain["image"].affine[:3, 3].numpy() + (PATCH - 1) / 2
    crop, rotation = draw(volumes, seed, flip, turn=1)
    if flip:
        volumes = {key: volume[::-1] for key, volume in volumes.items()}
        centre[0] = SHAPE[0] - 1 - centre[0]
    angles = (rotation.x, rotation.y, rotation.z)
    assert rotation.range_x == rotation.range_y == rotation.range_z == (-0.26, 0.26)  # radians (DIFF-18)
    assert min(np.abs(angles)) > 0
    np.testing.assert_allclose(crop["image"][0], turned(volumes["image"], centre, angles, 1), atol=1e-3)
    expected = turned(volumes["label"], centre, angles, 0)
    assert set(np.unique(crop["label"])) <= {0, 1}
    assert (crop["label"][0].numpy() != expected).mean() < 1e-4  # positions halfway between two voxels
    assert expected.any()
