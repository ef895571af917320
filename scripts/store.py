"""Preprocess volumes once, so that training reads only its crops: `python -m scripts.store BUNDLE --store=FOLDER`."""

import os
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from typing import Any

from common.errors import InputError, check_number, show
from common.files import expand_home
from common.options import BUNDLES, read_config
from scripts import cli
from scripts.pools import map_in_processes
from scripts.run import config_files, typed


def prepare(bundle: str, *overlays: str, store: str, jobs: int = 0, recipe: str = "text", **options: str) -> None:
    """Preprocess and store the volumes of each subject that the store lacks, for training with the same options.

    Subjects that cannot be prepared are named, and the status is 1.

    Args:
        bundle: bundle to train, such as brats_finetune.
        overlays: configs that change the bundle's train.yaml, such as quickstart, or YAML files.
        store: folder of the preprocessed volumes; two to three times as large as the .nii.gz files.
        jobs: subjects at a time, each in a process; 0 for one per core.
        recipe: recipe of the training, as for python -m scripts.run.
        options: options of training, such as --dataset_dir and --datalist.
    """
    check_number("jobs", jobs, int, 0, 1024)
    folder = expand_home(store, f"--store={store}").absolute()  # training runs in a different folder
    files = config_files(bundle, "train", overlays, recipe)
    with tempfile.TemporaryDirectory() as unused:
        fixed: dict[str, Any] = {"bundle_root": os.path.relpath(BUNDLES / bundle), "output_dir": unused}
        fixed |= {"ckpt_dir": unused, "resume": False, "pretrained": None, "warmup_iterations": 0}
        parser = read_config(files, {name: typed(name, text) for name, text in options.items()} | fixed)
        parser.get_parsed_content("imports")  # `common`, which other values refer to
        data = parser.get_parsed_content("plan").load("training")
        transform = parser.get_parsed_content("train::preprocessing")
    from common.data.store import Store  # late import: `--help` stays fast

    folder.mkdir(parents=True, exist_ok=True)
    kept = Store(folder, transform)
    missing = kept.missing(data)
    show(f"subjects: {len(data)} ({len(data) - len(missing)} stored, {len(missing)} to prepare)")
    failed = [fault for fault in map_in_processes(partial(_fault_of, kept), missing, jobs, "subject") if fault]
    if failed:
        show(*failed, f"{len(failed)} of {len(data)} subjects are not prepared", error=True)
        sys.exit(1)
    show(f"train with --store={folder}")


def _fault_of(store: Any, entry: Mapping[str, Any]) -> str:
    """Add a datalist's entry to a store; return the error in one line, or "" without an error. A full disk raises."""
    import torch

    from common.data.datasets import naming_errors

    torch.set_num_threads(1)
    try:
        with naming_errors(entry):
            store.add(entry)
    except InputError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    cli.run(prepare, "store")
