"""Run a bundle as `python -m monai.bundle run` does, with overlays by name."""

import gc
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.configs import BUNDLES, as_data, bundles_with, typed, warn_of_program
from common.errors import InputError, choice, did_you_mean
from common.files import valid_yaml
from common.options import check_names
from scripts import cli

RECIPES = {"text": None, "table": "recipe_table.yaml", "code": "recipe_code.yaml", "robust": "recipe_robust.yaml"}
DISTRIBUTED = "multi_gpu_train.yaml"


def run(bundle: str, config: str, *overlays: str, recipe: str = "text", **options: str) -> None:
    """Run a bundle's training, evaluation or inference.

    Results go below the bundle's folder, unless --bundle_root or --output_dir says otherwise; other relative paths
    start from the current folder. Text in options is never evaluated. Under torchrun, train gets the overlay
    multi_gpu_train.

    Args:
        bundle: folder in bundles/, such as brats_finetune.
        config: one of its configs, such as train, evaluate or inference.
        overlays: further configs, such as quickstart, or YAML files, which change CONFIG.
        recipe: of train: text, table (values of the paper's Table 3), code (values of its public code), or robust, for
            fine-tuning only.
        options: options of the bundle (python -m scripts.options BUNDLE), and --tracking=mlflow.
    """
    files = config_files(bundle, config, overlays, recipe)
    values = typed_options(options, files)
    gc.disable()  # garbage collection takes a third of the time to import PyTorch and MONAI, and frees nothing
    from monai.bundle import create_workflow

    gc.freeze()  # exclude these objects from later collections, also in DataLoader workers
    gc.enable()
    warnings.filterwarnings("ignore", message="parsing config_file")  # MONAI's warning, also of our own configs
    for file in files:
        warn_of_program(file)
    bundle_root = {"bundle_root": os.path.relpath(BUNDLES / bundle)}
    workflow = create_workflow(config_file=files, **as_data(bundle_root | values))
    workflow.run()
    workflow.finalize()


def config_files(bundle: str, config: str, overlays: Sequence[str] = (), recipe: str = "text") -> list[str]:
    """Return the config files that a command line names, in the order in which they change each other."""
    configs = Path(os.path.relpath(BUNDLES / _known("bundle", bundle, bundles_with("train.yaml")) / "configs"))
    names = sorted(file.stem for file in configs.glob("*.yaml"))
    files = [configs / f"{_known('config', config, names)}.yaml"]
    if (recipe_file := choice("recipe", recipe, RECIPES)) is not None:
        files.append(configs / recipe_file)
    for overlay in overlays:
        is_file = Path(overlay).suffix in (".yaml", ".yml", ".json")
        files.append(Path(overlay) if is_file else configs / f"{_known('overlay', overlay, names)}.yaml")
    if "RANK" in os.environ and config == "train" and configs / DISTRIBUTED not in files:
        files.append(configs / DISTRIBUTED)
    for file in files:
        if not file.is_file():
            raise InputError(file, "no such file")
    return [str(file) for file in files]


def typed_options(options: Mapping[str, Any], files: Sequence[str]) -> dict[str, Any]:
    """Return options with parsed values; refuse a name that no file has, before slow imports."""
    check_names(options, *(valid_yaml(file, "a mapping of options", {"type": "object"}) for file in files))
    return {name: typed(name, text) for name, text in options.items()}


def _known(what: str, word: str, names: Sequence[str]) -> str:
    if word not in names:
        hint = did_you_mean(word, names, otherwise=f"expected one of {', '.join(names)}")
        raise InputError(f"unknown {what} '{word}'{hint}")
    return word


if __name__ == "__main__":
    cli.run(run, "run")
