"""Inference with the settings of BrainSegFounder's published files, and the plain steps of its public test."""

import nibabel
import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference
from monai.transforms import Compose, LoadImaged, NormalizeIntensityd, Resize

from common import weights
from common.networks import segmentation_network
from scripts.weights import PUBLISHED
from scripts.yaml_files import read_yaml
from tests.bundles.workflows import PATCH, untrained, workflow

pytestmark = pytest.mark.slow


def predicted(name, cohorts, tmp_path, **options):
    """Return the label map with a published file's settings, its subject, and the network."""
    (stated,) = [entry["settings"] for entry in read_yaml(PUBLISHED) if entry["name"] == name]
    settings = {**stated, "patch_size": PATCH, **options}
    bundle = settings.pop("bundle")
    file = untrained(bundle, tmp_path / "model.pt", **settings)
    workflow(bundle, "inference", cohorts, tmp_path / "out", checkpoint=file).run()
    (path,) = (tmp_path / "out").glob("*.nii.gz")
    state = weights.read(file).state
    regions = len(state["out.conv.conv.bias"])
    channels, merging = len(settings["modalities"]), settings["merging"]
    network = segmentation_network("swin_unetr", channels, regions, "micro", PATCH, merging=merging)
    network.load_state_dict(state)
    return np.asarray(nibabel.load(path).dataobj), path.name.removesuffix(".nii.gz"), network.eval()


@torch.no_grad()
def test_tumours(cohorts, tmp_path):
    label, subject, network = predicted("BRATS-finetune", cohorts, tmp_path)
    files = [cohorts / "brats" / subject / f"{subject}_{name}.nii.gz" for name in ("flair", "t1ce", "t1", "t2")]
    steps = [LoadImaged("image"), NormalizeIntensityd("image", nonzero=True, channel_wise=True)]
    image = Compose(steps)({"image": files})["image"].as_tensor()
    logits = sliding_window_inference(image[None], PATCH, 1, network, overlap=0.6)[0]
    core, whole, enhancing = (torch.sigmoid(logits) > 0.5).numpy()
    expected = np.where(enhancing, 4, np.where(core, 1, np.where(whole, 2, 0)))
    assert len(np.unique(expected)) > 2
    np.testing.assert_array_equal(label, expected)


@torch.no_grad()
def test_strokes(cohorts, tmp_path):
    label, subject, network = predicted("ATLAS-finetune", cohorts, tmp_path, resize=PATCH)
    (file,) = (cohorts / "atlas").rglob(f"{subject}*_T1w.nii.gz")
    image = torch.from_numpy(nibabel.load(file).get_fdata(dtype=np.float32))[None]
    probabilities = torch.sigmoid(network(Resize(PATCH)(image)[None]))[0].as_tensor()
    expected = (Resize(image.shape[1:], mode="area")(probabilities) > 0.5)[0].numpy()
    assert expected.any()
    assert not expected.all()
    np.testing.assert_array_equal(label, expected)
