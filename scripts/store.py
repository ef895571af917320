"""Preprocess volumes once, so that training reads only its crops: `python -m scripts.store BUNDLE --store=FOLDER`."""

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from common.configs import BUNDLES, read
from common.errors import check_number, input_error_message, is_disk_full, show
from common.files import expand_home
from scripts import cli
from scripts.pools import map_in_processes
from scripts.run import config_files, typed


def prepare(
    bundle: str,
    *overlays: str,
    store: str,
    jobs: int = 0,
    recipe: str = "text",
    **options: str,
) -> None:
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
    with tempfile.TemporaryDirectory() as unused:
        data, transform = _training(bundle, config_files(bundle, "train", overlays, recipe), options, unused)
    from common.data.scan_checks import check_headers  # late imports: `--help` stays fast
    from common.data.store import Store

    folder.mkdir(parents=True, exist_ok=True)
    kept = Store(folder, transform)
    missing = kept.missing(data)
    show(f"subjects: {len(data)} ({len(data) - len(missing)} stored, {len(missing)} to prepare)")
    check_headers(missing, ["warning"])
    faults = map_in_processes(partial(_attempt, kept), missing, jobs, "subject")
    failed = [f"subject {entry['subject']}: {fault}" for entry, fault in zip(missing, faults, strict=True) if fault]
    if failed:
        show(*failed, f"{len(failed)} of {len(data)} subjects are not prepared", error=True)
        sys.exit(1)
    show(f"train with --store={folder}")


def _attempt(store: Any, entry: Mapping[str, Any]) -> str:
    """Add a datalist's entry to a store; return the error in one line, or "" without an error. A full disk raises."""
    import torch

    from common.data.scan_checks import describe_error

    torch.set_num_threads(1)
    try:
        store.add(entry)
    except Exception as error:
        if is_disk_full(error):
            raise
        return input_error_message(error) or describe_error(entry, error)
    return ""


def _training(
    bundle: str, files: Sequence[str], options: Mapping[str, str], unused: str
) -> tuple[Sequence[dict[str, Any]], Any]:
    """Return the datalist entries for training, and the preprocessing; `unused` is an empty folder for outputs."""
    root = os.path.relpath(BUNDLES / bundle)
    fixed: dict[str, Any] = {"bundle_root": root, "output_dir": unused, "ckpt_dir": unused}
    fixed |= {"resume": False, "pretrained": None, "warmup_iterations": 0}
    parser = read(files, {name: typed(name, text) for name, text in options.items()} | fixed)
    parser.get_parsed_content("imports")  # `common`, which other values refer to
    return parser.get_parsed_content("plan").load("training"), parser.get_parsed_content("train::preprocessing")


if __name__ == "__main__":
    cli.run(prepare, "store")
