"""Preprocess volumes once, so that training reads only its crops: `python -m scripts.store BUNDLE --store=FOLDER`."""

import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from common.errors import show
from scripts import cli
from scripts.configs import BUNDLES, read_config
from scripts.pools import map_in_processes
from scripts.run import config_files, typed

OF_WEIGHTS = ("pretrained", "modality_aliases", "pretrained_lr_factor")  # options that do not change the volumes


def prepare(bundle: str, *overlays: str, store: str, jobs: int = 0, recipe: str = "text", **options: str) -> None:
    """Preprocess and store the volumes of each subject that the store lacks, for training with the same options.

    The first subject that cannot be prepared ends the command; a repeated command continues.

    Args:
        bundle: bundle to train, such as brats_finetune.
        overlays: configs that change the bundle's train.yaml, such as quickstart, or YAML files.
        store: folder of the preprocessed volumes; about five times as large as the .nii.gz files.
        jobs: subjects at a time, each in a process; 0 for one per core.
        recipe: recipe of the training, as for python -m scripts.run.
        options: options of training, such as --dataset_dir and --datalist.
    """
    folder = Path(store).expanduser().absolute()  # training runs in a different folder
    files = config_files(bundle, "train", overlays, recipe)
    with tempfile.TemporaryDirectory() as unused:
        fixed: dict[str, Any] = {"bundle_root": os.path.relpath(BUNDLES / bundle), "output_dir": unused}
        fixed |= {"ckpt_dir": unused, "resume": False, "pretrained": None, "warmup_iterations": 0}
        values = {name: typed(name, text) for name, text in options.items() if name not in OF_WEIGHTS}
        parser = read_config(files, values | fixed)
        parser.get_parsed_content("imports")  # `common`, which other values refer to
        data = parser.get_parsed_content("plan").cases("training")
        transform = parser.get_parsed_content("train::preprocessing")
    from common.data.datasets import Store  # late import: `--help` stays fast

    folder.mkdir(parents=True, exist_ok=True)
    missing = [data[index] for index in Store(folder, data, transform).missing()]
    show(f"subjects: {len(data)} ({len(data) - len(missing)} stored, {len(missing)} to prepare)")
    map_in_processes(partial(_add, folder, transform), missing, jobs, "subject")
    show(f"train with --store={folder}")


def _add(folder: Path, transform: Any, entry: dict[str, Any]) -> None:
    import torch

    from common.data.datasets import Store

    torch.set_num_threads(1)
    Store(folder, [entry], transform).add(0)


if __name__ == "__main__":
    cli.run(prepare, "store")
