"""The configs of the bundles, and their workflows on the embedded cohort."""

from pathlib import Path

import yaml
from monai.bundle import ConfigParser, ConfigWorkflow

from tests.support import ROOT

SSL = ["atlas_stage2", "brats_stage2", "ukb_ssl_pretrain"]
SUPERVISED = ["atlas_finetune", "brats_finetune"]


def config(bundle: str, name: str = "train") -> dict:
    return ConfigParser.load_config_file(ROOT / "bundles" / bundle / "configs" / f"{name}.yaml")


def without_name(content: dict, bundle: str) -> dict:
    return yaml.safe_load(yaml.safe_dump(content).replace(bundle, "BUNDLE").replace(bundle.split("_")[0], "COHORT"))


def workflow(
    bundle: str, name: str, kind: str, cohorts: Path, output: Path, overlays: tuple[str, ...] = (), **options
) -> ConfigWorkflow:
    cohort = bundle.split("_")[0]
    folder = ROOT / "bundles" / bundle / "configs"
    data = {"dataset_dir": str(cohorts / cohort), "datalist": f"{cohorts / cohort}.json"}
    workflow = ConfigWorkflow(
        config_file=[str(folder / f"{file}.yaml") for file in (name, *overlays)],
        meta_file=str(folder / "metadata.json"),
        logging_file=False,
        workflow_type=kind,
        bundle_root=str(folder.parent),
        output_dir=str(output),
        model_size="micro",
        **(data | options),
    )
    workflow.initialize()
    if kind == "train":
        workflow.parser.get_parsed_content("train::checks")
    return workflow
