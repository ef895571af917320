"""Images resampled to a spacing before the network, and predictions back on the grid of the files."""

import nibabel as nib
import numpy as np
import pytest
import torch

from common import weights
from common.baselines.architectures import segmentation_network
from tests.bundles.workflows import workflow
from tests.support import TINY

SPACING = [3.0, 3.0, 3.0]  # mm; the cohort has 4 mm
CENTRE, RADIUS = np.array([10.0, -20.0, 20.0]), 24.0  # mm


def ball(shape, affine):
    """A ball on a grid."""
    voxels = np.indices(shape).reshape(3, -1).T
    distances = np.linalg.norm(voxels @ affine[:3, :3].T + affine[:3, 3] - CENTRE, axis=1)
    return (distances <= RADIUS).reshape(shape)


@pytest.mark.parametrize("name", ["evaluate", "inference"])
def test_a_prediction_returns_to_its_place_in_the_file(name, cohorts, tmp_path):
    network = segmentation_network("swin_unetr", 1, 1, "micro", [64, 64, 64])
    stated = {"modalities": ["T1"], "model_size": "micro", "patch_size": [64, 64, 64], "normalization": "brain"}
    weights.write({"network": network.state_dict(), "metadata": stated | {"spacing": SPACING}}, tmp_path / "model.pt")
    options = {"checkpoint": str(tmp_path / "model.pt"), "num_workers": 0}
    opened = workflow("atlas_finetune", name, "infer", cohorts, tmp_path / "out", **options)
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


@pytest.mark.parametrize("bundle", ["brats_finetune", "ukb_ssl_pretrain"])
def test_a_training_resamples_image_and_label(bundle, cohorts, tmp_path):
    options = {"ckpt_dir": str(tmp_path / "models"), "num_workers": 0, "spacing": [6, 6, 6], "patch_size": [64, 64, 64]}
    started = workflow(bundle, "train", "train", cohorts, tmp_path, warmup_iterations=1, **options)
    (case,) = started.parser.get_parsed_content("train")["cases"][:1]
    item = started.parser.get_parsed_content("validate")["preprocessing"](case)
    sizes = np.linalg.norm(item["image"].affine.numpy()[:3, :3], axis=0)
    assert np.allclose(sizes, 6)
    if "label" in item:
        assert item["label"].shape[1:] == item["image"].shape[1:]
        assert set(item["label"].unique().tolist()) == {0, 1}
        volume = (np.asarray(nib.load(case["label"]).dataobj) > 0).sum() * 4**3
        assert item["label"][1].sum().item() * 6**3 == pytest.approx(volume, rel=0.15)  # WT


@pytest.mark.slow
def test_evaluation_follows_the_spacing_of_the_training(run_bundle, tmp_path):
    trained = run_bundle("atlas_finetune", *TINY, "--spacing=[3,3,3]")
    assert trained.returncode == 0, trained.stderr
    file = tmp_path / "atlas_finetune/models/model.pt"
    assert weights.settings_of(file)["spacing"] == SPACING
    options = [f"--checkpoint={file}", "--num_workers=0"]
    evaluated = run_bundle("atlas_finetune", *options, config="configs/evaluate.yaml")
    assert evaluated.returncode == 0, evaluated.stderr
    refused = run_bundle("atlas_finetune", *options, "--spacing=[2,2,2]", config="configs/evaluate.yaml")
    assert refused.returncode == 2
    line = f"--spacing=[2.0, 2.0, 2.0]: {file} was trained with [3.0, 3.0, 3.0]; leave the option out"
    assert line in refused.stderr
