"""Configs of the bundles, workflows on the embedded cohort in this process, and untrained checkpoints."""

from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser, ConfigWorkflow

from common import weights
from common.data.regions import CONVENTIONS
from common.networks import segmentation_network
from common.ssl import SSLHead
from scripts.cohorts import COHORTS
from tests.support import BUNDLES, COHORT_OF, MODALITIES, ROOT

SUPERVISED = [bundle for bundle in BUNDLES if bundle.endswith("_finetune")]
SSL = [bundle for bundle in BUNDLES if bundle not in SUPERVISED]
REGIONS = {bundle: len(CONVENTIONS[str(COHORTS[COHORT_OF[bundle]].convention)]) for bundle in SUPERVISED}
PATCH = [32, 32, 64]  # voxels
STEP = {  # options for a training of one step; tests.support.TINY has them for commands
    "patch_size": PATCH,
    "batch_size": 2,
    "global_batch_size": "null",
    "iterations": 1,
    "val_interval": 1,
}


def config(bundle: str, name: str = "train") -> dict[str, Any]:
    return ConfigParser.load_config_file(ROOT / "bundles" / bundle / "configs" / f"{name}.yaml")


def workflow(
    bundle: str, name: str, cohorts: Path, output: Path, overlays: tuple[str, ...] = (), **options: Any
) -> ConfigWorkflow:
    """Return a bundle's initialised workflow with a micro network; `run()` runs it. A training checks its subjects."""
    cohort, folder = COHORT_OF[bundle], ROOT / "bundles" / bundle / "configs"
    values = {"dataset_dir": str(cohorts / cohort), "datalist": f"{cohorts / cohort}.json", "model_size": "micro"}
    values |= {"output_dir": str(output), "num_workers": 0, "amp": False}  # the same figures on every processor
    if name == "train":
        values |= {"ckpt_dir": str(output / "models"), "warmup_iterations": 1}
        values |= {"validate::inferer::overlap": 0} if bundle in SUPERVISED else {}  # less than half of the windows
    workflow = ConfigWorkflow(
        config_file=[str(folder / f"{file}.yaml") for file in (name, *overlays)],
        meta_file=str(folder / "metadata.json"),
        logging_file=False,
        workflow_type="train" if name == "train" else "infer",
        bundle_root=str(folder.parent),
        **(values | options),
    )
    workflow.initialize()
    if name == "train":
        workflow.parser.get_parsed_content("plan").cases("training")
    return workflow


def untrained(bundle: str, file: Path, architecture: str = "swin_unetr", seed: int = 0, **metadata: Any) -> str:
    """Write a bundle's untrained micro network with a training's metadata; return the path."""
    torch.manual_seed(seed)
    stated = {"modalities": MODALITIES[bundle], "model_size": "micro", "patch_size": PATCH}
    stated |= {"normalization": "brain", "merging": "monai_1_5"}
    if bundle in SSL:
        network = SSLHead(len(MODALITIES[bundle]), "micro")
        stated |= {"network": "SSLHead"}
    else:
        network = segmentation_network(architecture, len(MODALITIES[bundle]), REGIONS[bundle], "micro", PATCH)
        stated |= {"architecture": architecture, "network": type(network).__name__}
    weights.write({"network": network.state_dict(), "metadata": stated | {"bundle": bundle} | metadata}, file)
    return str(file)
