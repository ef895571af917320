"""Run a bundle as `python -m monai.bundle run` does, with overlays by name."""

import gc
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.errors import InputError, choice, show
from common.values import OPTIONS, TRACKING
from scripts import cli
from scripts.configs import BUNDLES, as_data, quoted

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
    values = {name: typed(name, text) for name, text in options.items()}
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
    if config == "evaluate":
        from scripts.pages.evaluation import write_pages  # late import: slow

        show(write_pages(Path(workflow.parser.get_parsed_content("output_dir"))))


def config_files(bundle: str, config: str, overlays: Sequence[str] = (), recipe: str = "text") -> list[str]:
    """Return the config files that a command line names, in the order in which they change each other."""
    configs = Path(os.path.relpath(BUNDLES / choice("bundle", bundle, bundles_with("train.yaml")) / "configs"))
    names = sorted(file.stem for file in configs.glob("*.yaml"))
    recipes = [name.removeprefix("recipe_") for name in names if name.startswith("recipe_")]
    files = [configs / f"{choice('config', config, names)}.yaml"]
    if choice("recipe", recipe, ["text", *recipes]) != "text":
        files.append(configs / f"recipe_{recipe}.yaml")
    for overlay in overlays:
        is_file = Path(overlay).suffix in (".yaml", ".yml", ".json")
        files.append(Path(overlay) if is_file else configs / f"{choice('overlay', overlay, names)}.yaml")
    if "RANK" in os.environ and config == "train" and configs / DISTRIBUTED not in files:
        files.append(configs / DISTRIBUTED)
    for file in files:
        if not file.is_file():
            raise InputError(file, "no such file")
    return [str(file) for file in files]


def bundles_with(file: str) -> list[str]:
    """Return the names of the bundles that have this file in configs/."""
    return sorted(path.parents[1].name for path in BUNDLES.glob(f"*/configs/{file}"))


def typed(name: str, text: Any) -> Any:
    """Return an option's checked value: text options stay as typed, others are parsed as MONAI's command does.

    Example:
        >>> typed("output_dir", "2026_11_27"), typed("patch_size", "64,64,64"), typed("loss::gamma", "1e-1")
        ('2026_11_27', [64, 64, 64], 0.1)
    """
    kind = OPTIONS.get(name)
    is_literal = name not in TRACKING and (kind is None or kind.is_literal)
    value = cli.DefaultParseValue(text) if is_literal and isinstance(text, str) else text
    return value if kind is None else kind.parse(name, value)


def argument(word: str) -> str:
    """Rewrite `--option=text` so that MONAI's own command takes the same value as our commands."""
    option, equals, text = word.partition("=")
    return f"{option}={quoted(typed(option.removeprefix('--'), text))}" if equals else option


def warn_of_program(path: str | Path) -> None:
    """Warn that a config from outside this repository can run any code."""
    if not Path(os.path.realpath(path)).is_relative_to(BUNDLES) and os.environ.get("RANK", "0") == "0":
        show(f"warning: {path}: its expressions run as a program; it is not from bundles/; see SECURITY.md", error=True)


if __name__ == "__main__":
    cli.run(run, "run")
