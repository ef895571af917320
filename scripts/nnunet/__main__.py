"""nnU-Net as a baseline on a datalist: `.venv-nnunet/bin/python -m scripts.nnunet`."""

import importlib.util
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from common.cli import run
from common.data.datalists import SPLITS, Datalist
from common.errors import ArgumentError, InputError, check_number, choice, show
from common.files import check_writable_folder, digest, expand_home
from common.values import DEVICE, optional

CONFIGURATIONS = ("2d", "3d_fullres", "3d_lowres")
PACKAGES = ("nnunetv2", "dynamic-network-architectures")

Case = Mapping[str, Any]


def baseline(
    datalist: str,
    dataset_dir: str,
    output: str,
    configuration: str = "3d_fullres",
    plans: str = "default",
    epochs: int = 1000,
    iterations_per_epoch: int = 250,
    patch_size: str | Sequence[int] | None = None,
    modalities: str | Sequence[str] | None = None,
    pretrained: str | None = None,
    split: str = "testing",
    num_workers: int = 8,
    device: str = "cuda",
    seed: int = 0,
) -> None:
    """Train nnU-Net on a datalist's training subjects and predict its held-out ones.

    Planning, preprocessing, network, augmentation, schedule and prediction are nnU-Net's own; the training and
    validation splits are the datalist's. Regions (WT, TC, ET) are trained as such, and label maps have the datalist's
    values. Repeat the command to continue an interrupted run: what is finished is not done again. `python -m
    scripts.evaluate` scores OUTPUT/predictions. OUTPUT/run.json has settings, plan, time, memory and losses.

    Args:
        datalist: JSON file with labelled training and validation subjects.
        dataset_dir: the cohort's folder, where the datalist's paths start.
        output: folder for everything; a new one, or that of an interrupted run with the same settings.
        configuration: 2d, 3d_fullres or 3d_lowres.
        plans: default (the U-Net of Isensee et al. 2021, planned for 8 GB of GPU memory) or resenc_l (residual encoder
            L, which nnU-Net has recommended since 2024, for 24 GB).
        epochs: nnU-Net's default is 1000.
        iterations_per_epoch: nnU-Net's default is 250; the validation after each epoch takes a fifth as many.
        patch_size: largest patch to plan for, such as [96,96,96], in nnU-Net's order of axes (z, y, x); by default what
            the images and the GPU memory allow.
        modalities: to use, in this order, such as T1,T2. All by default.
        pretrained: checkpoint of nnssl (OpenMind) or nnU-Net that initialises the encoder; the run prints which tensors
            matched. The schedule stays that of a training from scratch.
        split: to predict: testing, or another one, whose predictions are in OUTPUT/predictions-SPLIT.
        num_workers: processes that preprocess and augment; 0 augments in the main process.
        device: cuda or cpu.
        seed: of the initial weights, 0 or more. nnU-Net does not seed its augmentation in worker processes.
    """
    choice("configuration", configuration, dict.fromkeys(CONFIGURATIONS))
    choice("plans", plans, dict.fromkeys(("default", "resenc_l")))
    choice("split", split, dict.fromkeys(SPLITS))
    for name, value in {"epochs": epochs, "iterations_per_epoch": iterations_per_epoch}.items():
        check_number(name, value, int, 1)
    check_number("num_workers", num_workers, int, 0, 1024)
    check_number("seed", seed, int, 0, 2**32 - 1)
    choice("device", device, dict.fromkeys(("cpu", "cuda")))
    patch = _patch_size(patch_size, configuration)
    names = _modalities(modalities)
    listed = Datalist(expand_home(datalist, f"--datalist={datalist}"), expand_home(dataset_dir, "--dataset_dir"))
    convention = listed.content.get("label_convention")
    if convention is None:
        raise InputError(f"--datalist={datalist}: its cohort has no labels; expected one to train on")
    names = list(listed.content["modalities"]) if names is None else names
    training, validation = (listed.load(part, names, convention) for part in ("training", "validation"))
    held_out = listed.load(split, names)
    weights = optional(pretrained) and expand_home(pretrained or "", f"--pretrained={pretrained}")
    if weights and not weights.is_file():
        raise InputError(f"--pretrained={pretrained}: no such file")
    folder = expand_home(output, f"--output={output}").absolute()
    check_writable_folder(folder, f"--output={output}")
    if any(importlib.util.find_spec(name) is None for name in ("nnunetv2", "dynamic_network_architectures")):
        raise InputError("nnU-Net is not installed; run make nnunet, then use .venv-nnunet/bin/python")
    DEVICE.parse("device", device)
    from scripts.nnunet.record import check_settings, dataset_name  # late import: `--help` stays fast

    settings = {
        "bundle": "nnunet",
        "datalist": str(listed.path),
        "subjects": listed.digest,
        "dataset_dir": str(Path(listed.root).absolute()),
        "data_set": dataset_name(listed.content["name"]),
        "label_convention": convention,
        "modalities": names,
        "configuration": configuration,
        "plans": plans,
        "patch_size": patch,
        "epochs": epochs,
        "iterations_per_epoch": iterations_per_epoch,
        "pretrained": weights and digest(weights),
        "seed": seed,
    }
    check_settings(folder, settings)
    predictions = _run(folder, settings, num_workers, device, weights, training, validation, split, held_out)
    show(f"{predictions}: {len(held_out)} label maps of {split}")


def _run(
    folder: Path,
    settings: Mapping[str, Any],
    num_workers: int,
    device: str,
    pretrained: Path | None,
    training: Sequence[Case],
    validation: Sequence[Case],
    split: str,
    held_out: Sequence[Case],
) -> Path:
    """Run the remaining steps and return the folder of the predictions."""
    os.environ["nnUNet_def_n_proc"] = str(max(1, num_workers))  # noqa: SIM112  nnU-Net reads it when it is imported

    import torch

    from scripts.nnunet import steps
    from scripts.nnunet.conversion import convert
    from scripts.nnunet.pretrained import fit, read
    from scripts.nnunet.record import BaselineRecord

    modalities = settings["modalities"]

    def initialise(network: torch.nn.Module) -> None:
        assert pretrained is not None
        state, report = fit(network, pretrained, modalities)
        network.load_state_dict(state)
        show(*report.lines())
        record.add_weights(report)

    if pretrained:
        read(pretrained)  # rejects invalid files early
    record = BaselineRecord(folder, settings, device, {name: version(name) for name in PACKAGES})
    record.write()
    data_set, configuration, plans = (settings[name] for name in ("data_set", "configuration", "plans"))
    work = steps.Work(folder, data_set, configuration, plans, num_workers, torch.device(device))
    with record.step("convert") as to_do:
        if to_do:
            convert(work.raw, training, validation, modalities, settings["label_convention"])
    with record.step("fingerprint") as to_do:
        if to_do:
            steps.fingerprint(work)
    with record.step("plan") as to_do:
        if to_do:
            steps.plan(work, settings["patch_size"])
            if pretrained:
                fit(steps.untrained_network(work), pretrained, modalities)  # rejects unsuitable encoders early
            record.content["plan"] = steps.plan_summary(work)
    with record.step("preprocess") as to_do:
        if to_do:
            steps.preprocess(work)
    with record.step("train", redo=not (steps.checkpoint_folder(work) / steps.FINAL).is_file()) as to_do:
        if to_do:
            lengths = settings["epochs"], settings["iterations_per_epoch"], settings["seed"]
            record.content |= steps.train(work, *lengths, initialise if pretrained else None)
    predictions = folder / ("predictions" if split == "testing" else f"predictions-{split}")
    missing = [case for case in held_out if not steps.prediction(predictions, case).is_file()]
    with record.step(f"predict {split}", redo=bool(missing)) as to_do:
        if to_do:
            steps.predict(work, missing, predictions)
    record.finish()
    return predictions


def _patch_size(value: Any, configuration: str) -> list[int] | None:
    if optional(value) is None:
        return None
    fits = isinstance(value, list | tuple) and len(value) == 3 and all(type(edge) is int for edge in value)
    if not fits or not all(16 <= edge <= 1024 for edge in value):
        raise ArgumentError(f"patch_size={value}: expected three whole numbers from 16, such as [96,96,96]")
    if configuration == "2d":
        raise ArgumentError(f"patch_size={value}: expected none with --configuration=2d")
    return list(value)


def _modalities(value: Any) -> list[str] | None:
    if optional(value) is None:
        return None
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str) for name in names):
        raise ArgumentError(f"modalities={value}: expected names, such as T1,T2")
    return list(names)


if __name__ == "__main__":
    run(baseline, "nnunet")
