"""nnU-Net as a baseline on a datalist: `.venv-nnunet/bin/python -m scripts.nnunet`."""

import importlib.util
import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from common.cli import run
from common.data.datalists import SPLITS, Datalist
from common.data.regions import regions_of, with_sides
from common.data.scan_checks import check_headers
from common.errors import ArgumentError, InputError, check_number, choice, show
from common.files import check_writable_folder, expand_home
from common.options import OPTIONS
from common.values import DEVICE, flag

PACKAGES = ("nnunetv2", "dynamic-network-architectures")


def baseline(
    datalist: str,
    dataset_dir: str,
    output: str,
    plans: str = "default",
    gpu_memory: float | None = None,
    spacing: Sequence[float] | None = None,
    epochs: int = 1000,
    iterations_per_epoch: int = 250,
    modalities: Sequence[str] | None = None,
    mirroring: bool | None = None,
    split: str = "testing",
    num_workers: int = 8,
    device: str = "cuda",
    seed: int = 0,
    convert_only: bool = False,
) -> None:
    """Train nnU-Net on a datalist's training subjects and predict its held-out subjects.

    Planning, preprocessing, network, augmentation, schedule and prediction are nnU-Net's own; the training and
    validation splits are the datalist's. Regions (WT, TC, ET) are trained directly, and label maps have the datalist's
    values. Repeat the command to continue an interrupted run: finished steps are skipped. `python -m
    scripts.evaluate` scores OUTPUT/predictions. OUTPUT/run.json holds settings, plan, time, memory and losses.

    Args:
        datalist: JSON file with labelled training and validation subjects.
        dataset_dir: folder that the datalist's paths are relative to.
        output: new folder for all files, or the folder of an interrupted run with the same settings.
        plans: default (the U-Net of Isensee et al. 2021, planned for 8 GB of GPU memory) or resenc_l (residual encoder
            L, which nnU-Net has recommended since 2024, for 24 GB).
        gpu_memory: GPU memory that nnU-Net plans its patch and network for, in GB; 8 or 24 by default, as above.
        spacing: spacing that nnU-Net resamples to, in mm, such as [2,2,2]; the data's median by default.
        epochs: number of epochs; 1000 in nnU-Net.
        iterations_per_epoch: number of iterations, 250 in nnU-Net; the validation of an epoch takes a fifth as many.
        modalities: modalities to use, in this order, such as ['T1','T2']. All by default.
        mirroring: whether crops and windows are mirrored along all axes; true by default, unless a region has a side,
            such as hippocampus_left.
        split: split to predict; predictions of a split other than testing are in OUTPUT/predictions-SPLIT.
        num_workers: processes that preprocess and augment; 0 augments in the main process.
        device: cuda or cpu.
        seed: seed of the initial weights, 0 or more. nnU-Net does not seed its augmentation in worker processes.
        convert_only: only write nnU-Net's raw data set, OUTPUT/nnUNet_raw, which refers to the original images.
    """
    choice("plans", plans, dict.fromkeys(("default", "resenc_l")))
    choice("split", split, dict.fromkeys(SPLITS))
    for name, value in {"epochs": epochs, "iterations_per_epoch": iterations_per_epoch}.items():
        check_number(name, value, int, 1)
    is_conversion = flag("convert_only", convert_only)
    check_number("num_workers", num_workers, int, 0, 1024)
    check_number("seed", seed, int, 0, 2**32 - 1)
    if gpu_memory is not None:
        check_number("gpu_memory", gpu_memory, float, 0.1)
    spacing = OPTIONS["spacing"](spacing)
    listed = Datalist(expand_home(datalist, f"--datalist={datalist}"), expand_home(dataset_dir, "--dataset_dir"))
    convention = listed.content.get("label_convention")
    if convention is None:
        raise InputError(f"--datalist={datalist}: no labels to train on")
    sided = with_sides(regions_of(convention))
    is_mirrored = not sided if mirroring is None else flag("mirroring", mirroring)
    if is_mirrored and sided:
        raise ArgumentError("mirroring", mirroring, f"{sided[0]} has a side", "false")
    names = list(listed.content["modalities"]) if modalities is None else OPTIONS["modalities"](modalities)
    training, validation = (listed.load(part, names, convention) for part in ("training", "validation"))
    held_out = listed.load(split, names)
    check_headers([*training, *validation, *held_out])
    folder = expand_home(output, f"--output={output}").absolute()
    check_writable_folder(folder, f"--output={output}")
    if importlib.util.find_spec("nnunetv2") is None:
        raise InputError("nnU-Net is not installed; run make nnunet, then use .venv-nnunet/bin/python")
    device = "cpu" if is_conversion else DEVICE.parse("device", device)
    from scripts.nnunet.record import BaselineRecord, check_settings  # late import: `--help` stays fast

    settings = {
        "bundle": "nnunet",
        "datalist": str(listed.path),
        "subjects": listed.digest(),
        "dataset_dir": str(Path(listed.root).absolute()),
        "label_convention": convention,
        "modalities": names,
        "plans": plans,
        "gpu_memory": gpu_memory,
        "spacing": spacing,
        "mirroring": is_mirrored,
        "epochs": epochs,
        "iterations_per_epoch": iterations_per_epoch,
        "seed": seed,
    }
    check_settings(folder, settings)
    os.environ["nnUNet_def_n_proc"] = str(max(1, num_workers))  # noqa: SIM112  nnU-Net reads it when it is imported

    import torch

    from scripts.nnunet import steps
    from scripts.nnunet.conversion import convert, verify

    record = BaselineRecord(folder, settings, device, {name: version(name) for name in PACKAGES})
    if not (is_conversion and "convert" in record.content["steps"]):  # leaves the record of a finished run
        record.write()
    work = steps.Work(folder, plans, is_mirrored, num_workers, torch.device(device))
    with record.step("convert") as to_do:
        if to_do:
            verify([*training, *validation, *held_out])
            convert(work.raw, training, validation, names, convention)
    if is_conversion:
        show(f"{work.raw}: nnU-Net's raw data set; continue with the command without --convert_only")
        return
    with record.step("plan and preprocess") as to_do:
        if to_do:
            record.content["plan"] = steps.prepare(work, gpu_memory, spacing)
    with record.step("train", redo=not (steps.checkpoint_folder(work) / steps.FINAL).is_file()) as to_do:
        if to_do:
            record.content |= steps.train(work, epochs, iterations_per_epoch, seed)
    predictions = folder / ("predictions" if split == "testing" else f"predictions-{split}")
    missing = [case for case in held_out if not steps.prediction(predictions, case).is_file()]
    with record.step(f"predict {split}", redo=bool(missing)) as to_do:
        if to_do:
            steps.predict(work, missing, predictions)
    record.finish()
    show(f"{predictions}: {len(held_out)} label maps of {split}")


if __name__ == "__main__":
    run(baseline, "nnunet")
