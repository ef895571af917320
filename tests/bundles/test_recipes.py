"""Recipes: the values of the paper's text, its Table 3 and its public code, and the code's crops."""

import numpy as np
import pytest
import torch
import yaml
from monai.bundle import ConfigParser
from monai.transforms import (
    Compose,
    CropForegroundd,
    NormalizeIntensityd,
    RandSpatialCropd,
    RandSpatialCropSamplesd,
    ScaleIntensityRanged,
    SpatialPadd,
)

from tests.bundles.workflows import config

# Cox et al. 2024: section 2.3; sections 2.4.1, 2.4.2; sections 2.5.1, 2.5.2; Table 3. Public code: README of `pretrain`
# and the defaults of its script; `launch.sh` of BraTS; `pretrain.py`, `finetune.py` and their launch scripts of ATLAS;
# the fine-tuning script of BraTS and its launch scripts.
VALUES = """
ukb_ssl_pretrain:
  text: {learning_rate: 6.0e-6, iterations: 15000, batch_size: 2, global_batch_size: 128}
  table: {learning_rate: 1.0e-6, iterations: 200000, global_batch_size: 128}
  code: {learning_rate: 5.0e-4, iterations: 100000, batch_size: 4, global_batch_size: 256, crops_per_volume: 2,
         crop_foreground: false, divisible_foreground: true, warmup_iterations: 0, "lr_scheduler::cycles": 0.0,
         best_metric: reconstruction}
brats_stage2:
  text: {learning_rate: 1.0e-4, batch_size: 2, crops_per_volume: 1, best_metric: total}
  table: {learning_rate: 1.0e-4, iterations: 50000, batch_size: 2}
  code: {learning_rate: 6.0e-6, iterations: 50000, val_interval: 500, batch_size: 4, crops_per_volume: 2,
         crop_foreground: false, divisible_foreground: true, best_metric: reconstruction}
atlas_stage2:
  text: {learning_rate: 5.0e-3, iterations: 600 epochs, batch_size: 4, warmup_iterations: 500}
  table: {learning_rate: 3.0e-3, iterations: 600, batch_size: 4}
  code: {learning_rate: 1.0e-4, iterations: 1000 epochs, batch_size: 2, warmup_iterations: 50}
brats_finetune:
  text: {learning_rate: 1.0e-4, iterations: 50000, batch_size: 2, patch_size: [96, 96, 96]}
  table: {learning_rate: 1.0e-4, iterations: 50000, batch_size: 2}
  code: {learning_rate: 1.0e-4, iterations: 300 epochs, val_interval: 5 epochs, warmup_iterations: 50 epochs,
         batch_size: 2, patch_size: [128, 128, 128], divisible_foreground: true, normalize_crops: true,
         window_weighting: constant}
atlas_finetune:
  text: {learning_rate: 1.0e-4, iterations: 600 epochs, batch_size: 4, patch_size: [96, 96, 96]}
  table: {learning_rate: 3.0e-3, iterations: 600, batch_size: 4}
  code: {learning_rate: 1.0e-3, iterations: 1000 epochs, val_interval: 5 epochs, warmup_iterations: 0,
         "lr_scheduler::cycles": 0.0, batch_size: 2, "network_def::drop_rate": 0.1}
"""


def with_recipe(bundle, recipe, **options):
    """The parsed configs of a training by a recipe; `text` has no overlay."""
    overlay = {} if recipe == "text" else config(bundle, f"recipe_{recipe}")
    parser = ConfigParser(config(bundle))
    parser.update(overlay | options)
    return parser


@pytest.mark.parametrize("bundle", yaml.safe_load(VALUES))
def test_a_recipe_has_the_values_of_its_source(bundle):
    for recipe, expected in yaml.safe_load(VALUES)[bundle].items():
        parser = with_recipe(bundle, recipe)
        assert {name: parser[name] for name in expected} == expected


# The crops of the public code. Supervised: a foreground grown to multiples of the crop, a crop, a z-score of the crop.
# Self-supervised (v1.0.0, pretrain/utils/data_utils.py, 131-142; downstream/BraTS/ssl/utils/data_utils.py, 173-184):
# intensities from -1000 to 1000 become 0 to 1 before what is above 0 is taken for foreground; two crops of a volume

EDGE = 64
SIZE = [EDGE] * 3


def brain(seed):
    """A skull-stripped volume of four channels, away from the edges of its field of view, and three regions."""
    draw = np.random.default_rng(seed)
    image = np.zeros((4, 100, 90, 80), dtype=np.float32)
    low, high = draw.integers(3, 12, size=3), draw.integers(60, 78, size=3)
    inside = tuple(slice(first, last) for first, last in zip(low, high, strict=True))
    image[(slice(None), *inside)] = draw.uniform(50, 900, size=(4, *(high - low)))
    image *= np.linspace(0.5, 1.5, image.shape[1], dtype=np.float32)[:, None, None]
    label = (image[:3] > 700).astype(np.float32)
    return {"image": torch.from_numpy(image), "label": torch.from_numpy(label)}


def cropped(steps, seed):
    """The output of transforms whose crops are drawn from a seed."""
    compose = Compose(steps)  # which seeds its transforms
    for step in steps:
        if isinstance(step, RandSpatialCropd | RandSpatialCropSamplesd):
            step.set_random_state(seed)
    return compose(brain(seed))


def steps_of_the_recipe(bundle):
    return with_recipe(bundle, "code", patch_size=SIZE).get_parsed_content("train::random_transforms")


@pytest.mark.parametrize("seed", range(2))
def test_the_supervised_crops_of_recipe_code_are_those_of_the_public_code(seed):
    keys, z_score = ["image", "label"], NormalizeIntensityd("image", nonzero=True, channel_wise=True)
    foreground = CropForegroundd(keys, source_key="image", k_divisible=SIZE)
    crop = RandSpatialCropd(keys, roi_size=SIZE, random_size=False)
    expected = cropped([foreground, crop, z_score], seed)
    steps = steps_of_the_recipe("brats_finetune")
    steps = [step for step in steps if not type(step).__name__.startswith(("RandFlip", "RandScale", "RandShift"))]
    computed = cropped([CropForegroundd(keys, source_key="image", allow_smaller=True), z_score, *steps], seed)
    assert computed["image"].shape == (4, *SIZE)
    np.testing.assert_allclose(computed["image"], expected["image"], atol=1e-4)
    np.testing.assert_array_equal(computed["label"], expected["label"])


@pytest.mark.parametrize("bundle", ["ukb_ssl_pretrain", "brats_stage2"])
def test_the_self_supervised_crops_of_recipe_code_are_those_of_the_public_code(bundle):
    scale = ScaleIntensityRanged("image", a_min=-1000, a_max=1000, b_min=0, b_max=1, clip=True)
    pad = SpatialPadd("image", spatial_size=SIZE)
    foreground = CropForegroundd("image", source_key="image", k_divisible=SIZE)
    crops = RandSpatialCropSamplesd("image", roi_size=SIZE, num_samples=2, random_center=True, random_size=False)
    expected = cropped([scale, pad, foreground, crops], seed=0)
    assert with_recipe(bundle, "code")["crop_foreground"] is False
    computed = cropped([pad, *steps_of_the_recipe(bundle)], seed=0)
    assert len(computed) == 2
    for crop, other in zip(computed, expected, strict=True):
        outside = other["image"] == 0  # padding, which is black there and background here
        other_crop = np.where(outside, 0, 2000 * other["image"] - 1000)
        np.testing.assert_allclose(np.minimum(crop["image"], 1000), other_crop, atol=1e-3)
