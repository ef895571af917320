"""The option `spacing`: images are resampled before the network, predictions return to the file's grid."""

import nibabel as nib
import numpy as np
import pytest
import torch

from tests.bundles.workflows import STEP, untrained, workflow

SPACING = [3.0, 3.0, 3.0]  # mm; the cohort has 4 mm
CENTRE, RADIUS = np.array([10.0, -20.0, 20.0]), 24.0  # mm


def ball(shape, affine):
    """A ball on a grid."""
    voxels = np.indices(shape).reshape(3, -1).T
    distances = np.linalg.norm(voxels @ affine[:3, :3].T + affine[:3, 3] - CENTRE, axis=1)
    return (distances <= RADIUS).reshape(shape)


def test_a_prediction_returns_to_its_place_in_the_file(cohorts, tmp_path):
    checkpoint = untrained("atlas_finetune", tmp_path / "model.pt", spacing=SPACING)
    opened = workflow("atlas_finetune", "inference", cohorts, tmp_path / "out", checkpoint=checkpoint)
    item = opened.parser.get_parsed_content("dataset")[0]
    image = item["image"]
    affine = image.affine.numpy()
    assert np.allclose(np.linalg.norm(affine[:3, :3], axis=0), SPACING)
    logits = torch.from_numpy(np.where(ball(image.shape[1:], affine), 10.0, -10.0)).float()[None]
    item["pred"] = type(image)(logits, meta=image.meta)
    opened.parser.get_parsed_content("postprocessing")(item)
    (file,) = (tmp_path / "out").rglob(f"{item['subject']}*.nii.gz")
    written, source = nib.load(file), nib.load(image.meta["filename_or_obj"])
    assert written.shape == source.shape
    assert np.allclose(written.affine, source.affine)
    found, wanted = np.asarray(written.dataobj) > 0, ball(source.shape, source.affine)
    assert 2 * (found & wanted).sum() / (found.sum() + wanted.sum()) > 0.95


def test_a_training_resamples_image_and_label(cohorts, tmp_path):
    started = workflow("brats_finetune", "train", cohorts, tmp_path, spacing=[6, 6, 6], **STEP)
    case = started.parser.get_parsed_content("plan").cases("training")[0]
    item = started.parser.get_parsed_content("validate")["preprocessing"](case)
    assert np.allclose(np.linalg.norm(item["image"].affine.numpy()[:3, :3], axis=0), 6)
    assert item["label"].shape[1:] == item["image"].shape[1:]
    assert set(item["label"].unique().tolist()) == {0, 1}
    volume = (np.asarray(nib.load(case["label"]).dataobj) > 0).sum() * 4**3
    assert item["label"][1].sum().item() * 6**3 == pytest.approx(volume, rel=0.15)  # WT
    assert started.parser.get_parsed_content("plan").settings["spacing"] == [6, 6, 6]
