"""The steps are held to what nibabel and NumPy make of the files; the pictures in docs/images to the configs."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import yaml
from monai.bundle import ConfigParser
from PIL import Image

from scripts.phantoms.cohort import make
from scripts.preprocessing_pictures.__main__ import main
from scripts.preprocessing_pictures.drawing import centre_of_lesion, draw, slice_through
from scripts.preprocessing_pictures.steps import steps

ROOT = Path(__file__).parents[2]
SPACING = 4  # mm
COHORTS = {"ukb": "ukb_ssl_pretrain", "brats": "brats_finetune", "atlas": "atlas_finetune"}
BRATS = "BraTS2021_00000/BraTS2021_00000_%s.nii.gz"


def _config(bundle):
    config = ConfigParser()
    config.read_config(ROOT / "bundles" / bundle / "configs/train.yaml")
    config["options"] = SimpleNamespace(
        divisible_foreground=False, normalize_crops=False, spacing=None
    )  # patches may be small
    return config


@pytest.fixture(scope="module")
def brats(tmp_path_factory):
    root = tmp_path_factory.mktemp("brats")
    make("brats", 1, root, spacing=SPACING, workers=1)
    return root


@pytest.fixture(scope="module")
def entry(brats):
    images = [str(brats / (BRATS % kind)) for kind in ("flair", "t1ce", "t1", "t2")]
    return {"subject": "BraTS2021_00000", "image": images, "label": str(brats / (BRATS % "seg"))}


@pytest.fixture(scope="module")
def taken(entry):
    return steps(_config("brats_finetune"), entry)


def test_each_transform_of_the_image_is_a_step(taken):
    random = "SpatialPadd, RandSpatialCropd, RandFlipd, RandScaleIntensityd, RandShiftIntensityd, RandModalityDropoutd"
    names = ["LoadScand", "Orientationd", "CropForegroundd", "NormalizeBraind"]
    assert [step.name for step in taken] == [*names, random]
    assert [step.normalised for step in taken] == [False, False, False, True, True]
    assert not any(step.idle for step in taken)


def test_the_first_steps_are_the_files_as_nibabel_reads_and_turns_them(taken, entry):
    images = [nib.load(path) for path in entry["image"]]
    for step, turn in zip(taken[:2], (lambda image: image, nib.as_closest_canonical), strict=True):
        expected = [turn(image) for image in images]
        np.testing.assert_array_equal(step.image, [np.asarray(image.dataobj) for image in expected])
        np.testing.assert_allclose(step.affine, expected[0].affine)
    np.testing.assert_array_equal(taken[0].label[0], np.asarray(nib.load(entry["label"]).dataobj))


def test_the_crop_is_the_box_of_what_is_above_zero_and_its_voxels_are_z_scored(taken):
    turned, cropped, scored = taken[1:4]
    places = np.argwhere((turned.image > 0).any(axis=0))
    first, last = places.min(axis=0), places.max(axis=0) + 1
    box = tuple(slice(*ends) for ends in zip(first, last, strict=True))
    np.testing.assert_array_equal(cropped.image, turned.image[:, *box])
    np.testing.assert_allclose(cropped.affine[:3, 3], nib.affines.apply_affine(turned.affine, first))
    for raw, z in zip(cropped.image, scored.image, strict=True):
        inside = raw != 0
        np.testing.assert_allclose(z[inside], (raw[inside] - raw[inside].mean()) / raw[inside].std(), atol=1e-4)
        assert not z[~inside].any()


def test_training_sees_a_crop_of_the_patch_size(taken):
    assert taken[-1].image.shape == (4, 96, 96, 96)
    assert taken[-1].label.shape == (3, 96, 96, 96)
    assert taken[-1].voxel_size == pytest.approx((SPACING,) * 3)


def test_the_steps_follow_the_config(entry):
    config = _config("brats_finetune")
    config["deterministic_transforms"][3]["axcodes"] = "LPS"  # as on disk
    config["patch_size"] = [64, 64, 32]
    taken = steps(config, entry)
    assert [step.idle for step in taken[:3]] == [False, True, False]
    assert taken[-1].image.shape == (4, 64, 64, 32)


def test_all_panels_show_the_same_place(taken):
    """A voxel marked at that place is in the slice that each panel shows."""
    place = centre_of_lesion(taken[-1])
    for step in taken:
        voxel = nib.affines.apply_affine(np.linalg.inv(step.affine), place)
        assert slice_through(step, place) == round(voxel[2])
        assert (voxel > -0.5).all()
        assert (voxel < np.array(step.image.shape[1:]) - 0.5).all()


def test_the_figure_says_modalities_axes_and_voxel_sizes(taken):
    modalities = ["FLAIR", "T1ce", "T1", "T2"]
    figure = draw(taken, modalities, "brats2021", "BraTS")
    axes = np.array(figure.axes[:25]).reshape(5, 5)
    titles = [axis.get_title() for axis in axes[0]]
    assert titles[0] == "as on disk\n60 × 60 × 39 voxels\n4 × 4 × 4 mm"
    assert titles[-1].endswith("RandModalityDropoutd\n96 × 96 × 96 voxels\n4 × 4 × 4 mm")
    rows = [axis.get_ylabel() for axis in axes[:, 0]]
    assert rows == [f"{name}\naxis 1 → P" for name in [*modalities, "label on FLAIR"]]
    assert [axis.get_xlabel() for axis in axes[-1]] == ["axis 0 → L"] + ["axis 0 → R"] * 4
    assert figure.axes[25].get_ylabel().startswith("z-score")


def test_a_panel_shows_the_array_and_the_box_that_the_next_step_takes(taken):
    figure = draw(taken, ["FLAIR", "T1ce", "T1", "T2"], "brats2021", "BraTS")
    axes = np.array(figure.axes[:25]).reshape(5, 5)
    lesion = taken[-1].label.any(axis=0).sum(axis=(0, 1))
    height = nib.affines.apply_affine(taken[-1].affine, [0, 0, lesion.argmax()])[2]  # mm; no step tilts the slices
    for column, step in enumerate(taken):
        number = round((height - step.affine[2, 3]) / SPACING)
        for row in range(4):
            np.testing.assert_array_equal(axes[row, column].images[0].get_array().T, step.image[row, :, :, number])
    turned, cropped = taken[1:3]
    first = (cropped.affine[:2, 3] - turned.affine[:2, 3]) / SPACING  # voxels; both are in RAS orientation
    (box,) = axes[0, 1].patches
    assert not axes[0, 0].patches
    np.testing.assert_allclose(box.get_xy().min(axis=0), first - 0.5, atol=1e-4)
    np.testing.assert_allclose(box.get_xy().max(axis=0), first + cropped.image.shape[1:3] - 0.5, atol=1e-4)


def test_the_place_lies_in_the_training_crop(entry):
    config = _config("brats_finetune")
    config["patch_size"] = [32, 32, 8]
    taken = steps(config, entry, seed=1)
    crop = taken[-1]
    lowest, highest = (nib.affines.apply_affine(crop.affine, [0, 0, number])[2] for number in (0, 7))
    first = draw(taken, ["FLAIR", "T1ce", "T1", "T2"], "brats2021", "BraTS").axes[0].images[0]
    heights = nib.affines.apply_affine(taken[0].affine, np.argwhere(np.ones((1, 1, 39))))[:, 2]  # mm
    reached = np.flatnonzero((heights > lowest - 1) & (heights < highest + 1))
    assert len(reached) == 8
    assert any(np.array_equal(first.get_array().T, taken[0].image[0, :, :, number]) for number in reached)


def test_a_label_map_and_its_regions_are_painted_alike(taken, entry):
    """WT green, TC in it yellow, ET in that red; the map by its values, the regions by their channels."""
    figure = draw(taken, ["FLAIR", "T1ce", "T1", "T2"], "brats2021", "BraTS")
    for column in (0, 1):
        step, axis = taken[column], figure.axes[20 + column]
        slices = [picture.get_array() for picture in axis.images[1:]]
        shown = [int((picture[..., 3] > 0).sum()) for picture in slices]
        place = nib.affines.apply_affine(np.linalg.inv(step.affine), centre_of_lesion(taken[-1]))
        canonical = nib.load(entry["label"]) if column == 0 else nib.as_closest_canonical(nib.load(entry["label"]))
        values = np.asarray(canonical.dataobj)[:, :, round(place[2])]
        assert shown == [int(np.isin(values, known).sum()) for known in ((1, 2, 4), (1, 4), (4,))]


def test_the_command_draws_the_three_cohorts_and_the_same_bytes_again(tmp_path):
    for name in ("one", "two"):
        main(tmp_path / name, spacing=SPACING)
    for cohort in COHORTS:
        one, two = (tmp_path / name / f"preprocessing-{cohort}.png" for name in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()
        assert Image.open(one).width > 1200


def test_bad_options_end_in_one_line(tmp_path):
    command = [sys.executable, "-m", "scripts.preprocessing_pictures", "--spacing=9", f"--output={tmp_path}"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.splitlines() == ["error: --spacing=9: expected millimetres from 1 to 4"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("cohort", "bundle"), COHORTS.items())
def test_the_pictures_in_the_docs_are_those_of_the_configs(cohort, bundle):
    """If this fails: `python -m scripts.preprocessing_pictures --output=docs/images`."""
    path = ROOT / f"docs/images/preprocessing-{cohort}.png"
    config = yaml.safe_load((ROOT / "bundles" / bundle / "configs/train.yaml").read_text())
    expected = {key: config[key] for key in ("modalities", "patch_size", "deterministic_transforms")}
    expected |= {key: config["train"][key] for key in ("random_transforms", "preprocessing")}
    assert json.loads(Image.open(path).text["transforms"]) == expected
    assert path.stat().st_size < 300_000
    assert re.search(rf"!\[[^\]]+\]\(images/{path.name}\)", (ROOT / "docs/data.md").read_text())
