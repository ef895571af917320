"""The study `baselines` runs the Model Zoo's bundle from its folder; here, a bundle of the same form."""

import json
import shutil

import nibabel
import numpy as np
import torch
from monai.networks.nets import SegResNet

from common.data.datalists import Datalist
from scripts.experiments.jobs import ROOT, Places, jobs_of
from scripts.experiments.study import read
from tests.support import execute

NETWORK = {"blocks_down": [1, 2, 2, 4], "blocks_up": [1, 1, 1], "init_filters": 8, "in_channels": 4, "out_channels": 3}
LABELS = "$lambda x: torch.where(x[[2]] > 0, 4, torch.where(x[[0]] > 0, 1, torch.where(x[[1]] > 0, 2, 0)))"
WINDOW = [64, 64, 40]  # voxels, more than a scan has
NORMALIZE = {"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": True, "channel_wise": True}
CONFIG = {
    "bundle_root": ".",
    "output_dir": "$@bundle_root + '/eval'",
    "data_list_file_path": "",
    "dataset_dir": "",
    "test_datalist": "$monai.data.load_decathlon_datalist(@data_list_file_path, data_list_key='testing')",
    "network": {"_target_": "SegResNet", **NETWORK},
    "preprocessing": {"_target_": "Compose", "transforms": [{"_target_": "LoadImaged", "keys": "image"}, NORMALIZE]},
    "dataset": {"_target_": "Dataset", "data": "@test_datalist", "transform": "@preprocessing"},
    "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1},
    "postprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.0},
            {"_target_": "Lambdad", "keys": "pred", "func": LABELS},
            {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir", "resample": False},
        ],
    },
    "handlers": [
        {
            "_target_": "CheckpointLoader",
            "load_path": "$@bundle_root + '/models/model.pt'",
            "load_dict": {"model": "@network"},
        }
    ],
    "evaluator": {
        "_target_": "SupervisedEvaluator",
        "device": "cpu",
        "val_data_loader": "@dataloader",
        "network": "@network",
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": WINDOW, "overlap": 0.5},
        "postprocessing": "@postprocessing",
        "val_handlers": "@handlers",
        "amp": True,
    },
    "initialize": [],
    "run": ["$@evaluator.run()"],
}


def test_the_bundle_segments_the_cases_of_the_held_out_fold(cohorts, tmp_path):
    zoo, out, scans = tmp_path / "zoo", tmp_path / "out", cohorts / "brats"
    torch.manual_seed(0)
    network = SegResNet(**NETWORK).eval()
    (zoo / "configs").mkdir(parents=True)
    (zoo / "models").mkdir()
    torch.save(network.state_dict(), zoo / "models/model.pt")
    (zoo / "configs/inference.json").write_text(json.dumps(CONFIG))
    shutil.copy(ROOT / "bundles/brats_finetune/configs/metadata.json", zoo / "configs")
    places = Places(out, {"brats": scans}, {"model_zoo": zoo, "folds": zoo, "ct": zoo})
    jobs = jobs_of(read("baselines")[1], places)
    datalist = jobs["folds/fold0"].target
    datalist.parent.mkdir(parents=True)
    shutil.copy(cohorts / "brats.json", datalist)
    for job in (jobs["model_zoo/fold0"], jobs["model_zoo/fold0/evaluation"]):
        result = execute(job.command.arguments)
        assert result.returncode == 0, result.stderr[-2000:]
        assert job.target.exists()
    for case in Datalist(datalist, scans).load("validation", ["T1ce", "T1", "T2", "FLAIR"]):
        images = [nibabel.load(file) for file in case["image"]]
        voxels = np.stack([image.get_fdata(dtype=np.float32) for image in images])
        for channel in voxels:
            inside = channel != 0
            channel[inside] = (channel[inside] - channel[inside].mean()) / channel[inside].std()
        core, whole, enhancing = logits(network, voxels) > 0
        expected = np.select([enhancing, core, whole], [4, 1, 2], 0)
        written = nibabel.load(out / f"runs/model_zoo/fold0/predictions/{case['subject']}.nii.gz")
        np.testing.assert_allclose(written.affine, images[0].affine, atol=1e-6)
        assert np.mean(np.asarray(written.dataobj) == expected) > 0.99  # of bfloat16


def logits(network, voxels):
    """Of a scan in the middle of a window of zeros."""
    padded = np.zeros((4, *WINDOW), np.float32)
    starts = [(whole - side) // 2 for whole, side in zip(WINDOW, voxels.shape[1:], strict=True)]
    place = (slice(None), *(slice(at, at + side) for at, side in zip(starts, voxels.shape[1:], strict=True)))
    padded[place] = voxels
    with torch.no_grad():
        return network(torch.from_numpy(padded[None]))[0].numpy()[place]
