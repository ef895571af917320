"""The overlay recipe_robust: its parts, loss, training, exact resume, and mirroring in prediction."""

import shutil

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import RandFlipd
from scipy import ndimage
from torch import nn

from common.data import RandModalityDropoutd
from tests.bundles.workflows import STEP, SUPERVISED, config, workflow
from tests.common.toy import same, state_of

EDGE = 32  # voxels


def parsed(bundle="brats_finetune", **options):
    parser = ConfigParser(config(bundle) | {"deterministic_transforms": [], "patch_size": [EDGE] * 3})
    parser.update(config(bundle, "recipe_robust") | {"label_convention": "brats2021"} | options)
    parser.get_parsed_content("imports")
    return parser


def case(seed=0, shape=(48, 56, 40)):
    """A smooth scan of two modalities, the second missing, with background; and two nested regions."""
    image = 5 * ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(2, *shape)), (0, 2, 2, 2))
    image[:, :12], image[1] = 0, 0
    label = np.zeros((2, *shape))
    label[0, 20:34, 20:40, 8:24], label[1, 24:30, 24:30, 10:16] = 1, 1
    return {key: torch.from_numpy(value.astype(np.float32)) for key, value in {"image": image, "label": label}.items()}


def drawn(compose, volumes, seed):
    compose.set_random_state(seed=seed)
    (crop,) = compose({key: MetaTensor(value.clone()) for key, value in volumes.items()})
    return crop


SIDED = "hippocampus_left=1,hippocampus_right=2"


@pytest.mark.parametrize("recipe", ["train", "recipe_robust"])
@pytest.mark.parametrize("bundle", SUPERVISED)
def test_labels_with_sides_are_not_mirrored_left_to_right(bundle, recipe):
    def axes(convention):
        parser = ConfigParser(config(bundle) | {"patch_size": [EDGE] * 3})
        parser.update((config(bundle, "recipe_robust") if recipe != "train" else {}) | {"label_convention": convention})
        parser.get_parsed_content("imports")
        steps = parser.get_parsed_content("train::random_transforms")
        return {step.flipper.spatial_axis for step in steps if isinstance(step, RandFlipd)}

    assert 0 in axes("brats2021")
    assert axes(SIDED) == axes("brats2021") - {0}


def test_the_background_and_missing_modalities_stay_zero_whatever_is_drawn():
    """Compared with a crop of the same geometry and unchanged intensities."""
    volumes = case()
    intensities = ["noise", "blur", "brightness", "contrast", "low_resolution", "gamma"]
    full = parsed().get_parsed_content("train::preprocessing")
    plain = parsed(without=intensities).get_parsed_content("train::preprocessing")
    for step in (*full.transforms, *plain.transforms):
        if hasattr(step, "prob") and not isinstance(step, RandModalityDropoutd):
            step.prob = 1.0
    for seed in range(3):
        crop = drawn(full, volumes, seed)
        assert set(crop) == {"image", "label"}
        assert crop["image"].shape == crop["label"].shape == (2, EDGE, EDGE, EDGE)
        assert set(np.unique(crop["label"])) <= {0, 1}
        assert crop["image"].isfinite().all()
        assert (crop["image"][1] == 0).all()
        changed, before = crop["image"][0] != 0, drawn(plain, volumes, seed)["image"][0]
        assert not (changed & (before == 0)).any()
        assert (crop["image"][0] != before).any()


def test_the_loss_is_dice_of_the_batch_and_binary_cross_entropy_and_has_a_gradient_for_an_absent_region():
    logits = torch.randn(2, 3, 4, 4, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    regions = (torch.rand(2, 3, 4, 4, 4, generator=torch.Generator().manual_seed(1)) > 0.7).float()
    regions[:, 1] = 0
    probabilities, axes = logits.sigmoid(), (0, 2, 3, 4)
    overlap, total = (probabilities * regions).sum(axes), (probabilities + regions).sum(axes)
    dice = 1 - ((2 * overlap + 1e-5) / (total + 1e-5)).mean()
    entropy = nn.functional.binary_cross_entropy(probabilities, regions)
    loss = parsed().get_parsed_content("loss")(logits, regions)
    torch.testing.assert_close(loss, dice + entropy)
    torch.testing.assert_close(parsed(without=["cross_entropy"]).get_parsed_content("loss")(logits, regions), dice)
    (gradient,) = torch.autograd.grad(entropy, logits, retain_graph=True)
    (found,) = torch.autograd.grad(loss, logits)
    assert (found[:, 1].abs() > 0.9 * gradient[:, 1].abs()).all()


@pytest.mark.parametrize("bundle", ["atlas_finetune"])
def test_a_resumed_training_is_the_uninterrupted_one_and_publishes_its_average(bundle, cohorts, tmp_path):
    def train(folder, **options):
        given = STEP | {"iterations": 3, "save_interval": 1, "keep": 9} | options
        workflow(bundle, "train", cohorts, folder, ("recipe_robust",), **given).run()
        return state_of(folder / "models/iteration-0000003.pt")

    whole = train(tmp_path / "whole")
    (tmp_path / "resumed/models").mkdir(parents=True)
    for name in ("iteration-0000002.pt", "model.pt"):
        shutil.copy(tmp_path / "whole/models" / name, tmp_path / "resumed/models")
    assert same(train(tmp_path / "resumed", resume=True), whole)
    assert whole["average"]["n_averaged"] == 3

    model = torch.load(tmp_path / "whole/models/model.pt", weights_only=True)
    reached = model["metadata"]["reached"]["iteration"]
    then = torch.load(tmp_path / f"whole/models/iteration-{reached:07d}.pt", weights_only=True)
    assert all(torch.equal(value, then["average"][f"module.{key}"]) for key, value in model["network"].items())
    assert reached == 1 or not same(model["network"], dict(then["network"]))
    assert (model["metadata"]["flips"], model["metadata"]["max_grad_norm"]) == ([0], 12)

    checkpoint = str(tmp_path / "whole/models/model.pt")
    for name, options in (("inference", {}), ("evaluate", {"flips": [0, 1, 2]})):
        opened = workflow(bundle, name, cohorts, tmp_path / name, checkpoint=checkpoint, **options)
        assert len(opened.parser.get_parsed_content("network").mirrors) == (8 if options else 2)
