"""The steps are held to what nibabel and NumPy make of the files; the pictures in docs/images to the configs."""

import json
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import yaml
from monai.bundle import ConfigParser
from PIL import Image

from common.errors import InputError
from scripts.phantoms.cohort import make
from scripts.preprocessing_pictures.__main__ import BUNDLES, main
from scripts.preprocessing_pictures.drawing import centre_of_lesion, draw
from scripts.preprocessing_pictures.steps import steps
from tests.support import ROOT

SPACING = 4  # mm
MODALITIES = ["FLAIR", "T1ce", "T1", "T2"]


def config_of(bundle):
    config = ConfigParser()
    config.read_config(ROOT / "bundles" / bundle / "configs/train.yaml")
    options = {"divisible_foreground": False, "normalize_crops": False, "spacing": None}
    config["options"] = SimpleNamespace(**options)  # patches may be small
    return config


@pytest.fixture(scope="module")
def entry(tmp_path_factory):
    root = tmp_path_factory.mktemp("brats")
    make("brats", 1, root, spacing=SPACING, workers=1)
    stem = f"{root}/BraTS2021_00000/BraTS2021_00000_"
    images = [f"{stem}{kind}.nii.gz" for kind in ("flair", "t1ce", "t1", "t2")]
    return {"subject": "BraTS2021_00000", "image": images, "label": f"{stem}seg.nii.gz"}


@pytest.fixture(scope="module")
def taken(entry):
    return steps(config_of("brats_finetune"), entry)


@pytest.fixture(scope="module")
def figure(taken):
    return draw(taken, MODALITIES, "brats2021", "BraTS")


def test_each_transform_of_the_image_is_a_step_as_nibabel_and_numpy_do_it(taken, entry):
    assert [step.name for step in taken[:4]] == ["LoadScand", "Orientationd", "CropForegroundd", "NormalizeBraind"]
    assert taken[4].name.startswith("SpatialPadd, RandSpatialCropd, ")
    assert [step.normalised for step in taken] == [False, False, False, True, True]
    loaded, turned, cropped, scored, last = taken
    images = [nib.load(path) for path in entry["image"]]
    for step, turn in ((loaded, lambda image: image), (turned, nib.as_closest_canonical)):
        expected = [turn(image) for image in images]
        np.testing.assert_array_equal(step.image, [np.asarray(image.dataobj) for image in expected])
        np.testing.assert_allclose(step.affine, expected[0].affine)
    np.testing.assert_array_equal(loaded.label[0], np.asarray(nib.load(entry["label"]).dataobj))
    places = np.argwhere((turned.image > 0).any(axis=0))
    first, end = places.min(axis=0), places.max(axis=0) + 1
    np.testing.assert_array_equal(cropped.image, turned.image[:, *map(slice, first, end)])
    np.testing.assert_allclose(cropped.affine[:3, 3], nib.affines.apply_affine(turned.affine, first))
    for raw, z in zip(cropped.image, scored.image, strict=True):
        inside = raw != 0
        np.testing.assert_allclose(z[inside], (raw[inside] - raw[inside].mean()) / raw[inside].std(), atol=1e-4)
        assert not z[~inside].any()
    assert (last.image.shape, last.label.shape) == ((4, 96, 96, 96), (3, 96, 96, 96))
    assert last.voxel_size == pytest.approx((SPACING,) * 3)


def test_the_steps_follow_the_config_and_the_place_lies_in_the_training_crop(entry):
    config = config_of("brats_finetune")
    config["deterministic_transforms"][3]["axcodes"] = "LPS"  # as on disk
    config["patch_size"] = [32, 32, 8]
    taken = steps(config, entry, seed=1)
    assert [step.idle for step in taken[:3]] == [False, True, False]
    assert taken[-1].image.shape == (4, 32, 32, 8)
    place = np.linalg.inv(taken[-1].affine) @ [*centre_of_lesion(taken[-1]), 1]
    assert (place[:3] > -0.5).all()
    assert (place[:3] < np.array([32, 32, 8]) - 0.5).all()


def test_panels_show_the_same_place_and_the_box_that_the_next_step_takes(taken, figure):
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
    assert axes[0, 0].get_title() == "as on disk\n60 × 60 × 39 voxels\n4 × 4 × 4 mm"
    rows = [axis.get_ylabel() for axis in axes[:, 0]]
    assert rows == [f"{name}\naxis 1 → P" for name in [*MODALITIES, "label on FLAIR"]]
    assert [axis.get_xlabel() for axis in axes[-1]] == ["axis 0 → L"] + ["axis 0 → R"] * 4


def test_a_label_map_and_its_regions_are_painted_alike(taken, entry, figure):
    """WT green, TC in it yellow, ET in that red; the map by its values, the regions by their channels."""
    for column, turn in ((0, lambda image: image), (1, nib.as_closest_canonical)):
        shown = [int((picture.get_array()[..., 3] > 0).sum()) for picture in figure.axes[20 + column].images[1:]]
        place = nib.affines.apply_affine(np.linalg.inv(taken[column].affine), centre_of_lesion(taken[-1]))
        values = np.asarray(turn(nib.load(entry["label"])).dataobj)[:, :, round(place[2])]
        assert shown == [int(np.isin(values, known).sum()) for known in ((1, 2, 4), (1, 4), (4,))]


def test_the_command_draws_the_pictures_of_the_docs_and_the_same_bytes_again(tmp_path):
    """If this fails: `python -m scripts.preprocessing_pictures --output=docs/images`."""
    with pytest.raises(InputError, match=r"^--spacing=9: expected millimetres from 1 to 4$"):
        main(str(tmp_path / "none"), spacing=9)
    for name in ("one", "two"):
        main(str(tmp_path / name), spacing=SPACING)
    for cohort, bundle in BUNDLES.items():
        one, two = (Path(tmp_path / name / f"preprocessing-{cohort}.png") for name in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()
        config = yaml.safe_load((ROOT / "bundles" / bundle / "configs/train.yaml").read_text())
        expected = {key: config[key] for key in ("modalities", "patch_size", "deterministic_transforms")}
        expected |= {key: config["train"][key] for key in ("random_transforms", "preprocessing")}
        for picture in (one, ROOT / f"docs/images/{one.name}"):
            assert json.loads(Image.open(picture).text["transforms"]) == expected
