"""The steps are held to what nibabel and NumPy make of the files; the pictures in docs/images to the configs."""

import json
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import yaml
from monai.bundle import ConfigParser
from PIL import Image

from common.errors import InputError
from scripts.preprocessing_pictures.__main__ import BUNDLES, main
from scripts.preprocessing_pictures.steps import steps
from tests.support import ROOT

SPACING = 4  # mm


def test_each_transform_of_the_image_is_a_step_as_nibabel_and_numpy_do_it(cohorts):
    listed = json.loads((cohorts / "brats.json").read_text())["training"][0]
    entry = {"image": [str(cohorts / "brats" / path) for path in listed["image"]]}
    entry |= {"subject": listed["subject"], "label": str(cohorts / "brats" / listed["label"])}
    config = ConfigParser()
    config.read_config(ROOT / "bundles/brats_finetune/configs/train.yaml")
    config["options"] = SimpleNamespace(divisible_foreground=False, normalize_crops=False, spacing=None)
    taken = steps(config, entry)
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


def test_the_command_draws_the_pictures_of_the_docs(tmp_path):
    """If this fails: `python -m scripts.preprocessing_pictures --output=docs/images`."""
    with pytest.raises(InputError, match=r"^--spacing=9: expected millimetres from 1 to 4$"):
        main(str(tmp_path), spacing=9)
    main(str(tmp_path), spacing=SPACING)
    for cohort, bundle in BUNDLES.items():
        config = yaml.safe_load((ROOT / "bundles" / bundle / "configs/train.yaml").read_text())
        expected = {key: config[key] for key in ("modalities", "patch_size", "deterministic_transforms")}
        expected |= {key: config["train"][key] for key in ("random_transforms", "preprocessing")}
        for folder in (tmp_path, ROOT / "docs/images"):
            picture = Image.open(folder / f"preprocessing-{cohort}.png")
            assert json.loads(picture.text["transforms"]) == expected
