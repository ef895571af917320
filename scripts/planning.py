"""Plan a training from scans, this machine and a time limit, for `scripts.mine`."""

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.benchmark import Timer

from common.data import preparation
from common.data.names import files_in
from common.data.transforms import measure_case
from common.data.volumes import AFFINE_TOLERANCE, open_volume
from common.errors import InputError, show
from common.options import BUNDLES, automatic_amp, read_config
from common.ssl.networks import in_precision
from common.values import AUTO, DEVICE, NAME, names_of, or_auto
from scripts.datalists.__main__ import REGIONS
from scripts.datalists.build import scan_any
from scripts.datalists.files import mapping_of
from scripts.datalists.people import person_finder
from scripts.datalists.regions import read_regions
from scripts.datalists.splits import Split
from scripts.layouts.names import LABEL
from scripts.layouts.patterns import naming
from scripts.layouts.subjects import DataSet
from scripts.pools import free_memory
from scripts.steps import words_of

BUNDLE = "brats_finetune"
SHARE = 0.15  # fraction of the people for validation, and for testing
MOST = 50_000  # training steps; paper, section 2.4.2
LEARNT = 60  # steps of the shortest training that learnt: Dice 0.88, docs/real.md; 12 steps gave at most 0.47
VALIDATIONS = 10  # in a training run
STEPS = 0.75  # fraction of the time for training steps; the rest is for validation
OVERHEAD = 1.2  # factor on a step's time, for reading, augmentation and optimiser
# On a CPU the quick start's network, whose step takes a second and that of `small` a minute, and on a GPU the paper's
TRAINING: dict[str, dict[str, Any]] = {
    "cpu": {"model_size": "micro", "patch_size": [64] * 3, "batch_size": 1, "learning_rate": 6.0e-03},
    "cuda": {"model_size": "small", "patch_size": [96] * 3, "batch_size": 2, "learning_rate": 1.0e-04},
}
WORKERS = {"cpu": 0, "cuda": 4}  # processes that read; a step keeps all cores of a CPU busy
WARMUP = {"cpu": 0.2, "cuda": 0.01}  # share of the iterations; longer for the higher learning rate
SPACING = {"cpu": 2.0, "cuda": 1.0}  # mm; smallest voxel edge in training, so that small crops show enough of a head


def plan(
    root: Path,
    folder: Path,
    modalities: str | Sequence[str] | None,
    label: str | None,
    regions: str | None,
    person: str | None,
    hours: float,
    device: str,
) -> tuple[list[list[str]], str | dict[str, Any]]:
    """Return the commands from scans with label maps to a model and its scores in a folder, and the regions.

    A command is the words after `python -m`. The arguments are those of `scripts.mine`; the commands read the regions
    from FOLDER/regions.yaml.
    """
    device = or_auto(DEVICE).parse("device", device)
    device = device.replace(AUTO, "cuda" if torch.cuda.is_available() else "cpu")
    kind, names = device.partition(":")[0], naming(modalities, label)
    file = root / REGIONS if regions is None else Path(regions).expanduser()
    text = read_regions(file) if regions is not None or file.is_file() else None
    finder = None if person is None else person_finder(person)
    scan = scan_any(root, naming=names, regions=text, person=finder)
    if not (visits := [visit for visit in scan.subjects.values() if {LABEL, *scan.modalities} <= visit.files.keys()]):
        raise InputError(f"--root={root}", "no label map to learn from", "names that end with seg or mask, or --label")
    Split(SHARE, SHARE).draw(scan.people(visits))  # raises an InputError for fewer than 4 people
    cases = [
        {"subject": visit.name, "image": [str(root / visit.files[name]) for name in scan.modalities]}
        for visit in preparation.spread(visits)
    ]
    ranges = ranges_of(cases, scan.modalities)
    show(f"scans: {'raw, to be prepared' if ranges is None else preparation.describe(ranges)}")
    train = TRAINING[kind] | {"modalities": [*scan.modalities], "device": device}
    train |= length_of(OVERHEAD * Timer("step()", globals={"step": step_of(scan, train)}).timeit(2).mean, hours, kind)
    modalities, data = ",".join(names_of(modalities or scan.modalities)), root
    everyone, checked, datalist = (folder / f"{name}.json" for name in ("all", "checked", "datalist"))
    model, commands = folder / "training/models/model.pt", []
    if ranges is None:
        data = folder / "prepared"
        prepare: dict[str, object] = {"root": root, "output": data, "like": "brats"}  # rigid: lesions keep their size
        prepare |= {"modalities": ",".join(scan.modalities), "labels": label, "spacing": SPACING[kind]}
        prepare["patterns"] = {name: words for name, words in names.words.items() if name != LABEL} or None
        prepare["brain"] = None if {"T1", "T1ce"} & {*scan.modalities} else "none"  # deepbet needs a T1
        prepare["jobs"] = max(1, min(os.cpu_count() or 1, free_memory() // 2**31))  # 2 GiB each
        commands.append(["scripts.prepare", *words_of(prepare)])
        modalities, label = ",".join(scan.modalities), None  # the results have standard names
    else:
        train["spacing"] = [max(edge, SPACING[kind]) for edge in ranges["spacing"][0]]
    words = {"root": data, "output": everyone, "regions": folder / REGIONS, "modalities": modalities, "label": label}
    commands.append(["scripts.datalists", "generic", *words_of(words | {"person": person})])
    words = {"datalist": everyone, "root": data, "output": folder / "check", "fixed": checked}
    commands.append(["scripts.datalists", "check", *words_of(words)])
    words = {"datalist": checked, "output": datalist, "validation": SHARE, "testing": SHARE}
    commands.append(["scripts.datalists", "split", *words_of(words)])
    shared = {"dataset_dir": data, "datalist": datalist, "cohort": scan.name if NAME.fullmatch(scan.name) else "mine"}
    shared |= {"device": device, "num_workers": WORKERS[kind]}
    words = shared | {"output_dir": folder / "training", "ckpt_dir": model.parent, "resume": "auto", "recipe": "robust"}
    words |= {name: ",".join(map(str, value)) if isinstance(value, list) else value for name, value in train.items()}
    commands.append(["scripts.run", BUNDLE, "train", *words_of(words)])
    words = shared | {"output_dir": folder / "evaluation", "checkpoint": model}
    commands.append(["scripts.run", BUNDLE, "evaluate", *words_of(words)])
    commands.append(["scripts.report", str(folder)])
    return commands, mapping_of(str(scan.convention))


def length_of(seconds: float, hours: float, kind: str) -> dict[str, int]:
    """Return the length of a training on a `kind` of device, from the seconds of a step; print it."""
    interval = max(1, int(min(MOST, STEPS * 3600 * hours / seconds) / VALIDATIONS))
    iterations = VALIDATIONS * interval
    show(f"training: {iterations} steps, about {timedelta(seconds=round(iterations * seconds))}, and validation")
    if iterations < LEARNT:
        show(f"a trial of the commands only: the shortest training that learnt here had {LEARNT} steps")
    return {"iterations": iterations, "val_interval": interval, "warmup_iterations": int(iterations * WARMUP[kind])}


def ranges_of(cases: Sequence[Mapping[str, Any]], modalities: Sequence[str]) -> dict[str, list[Any]] | None:
    """Return how scans were prepared (`preparation.measure`); None if they are raw: on several grids, or with skull."""
    for case in cases:
        first, *others = map(open_volume, files_in(case))
        for scan in others:
            if scan.shape != first.shape or np.abs(scan.affine - first.affine).max() > AFFINE_TOLERANCE:
                return None
    ranges = preparation.union([measure_case(case, modalities) for case in cases])
    is_apart = ranges["overlap"][0] < preparation.OVERLAP_ON_ONE_GRID
    return None if is_apart or preparation.skull_in(ranges) != preparation.WITHOUT_SKULL else ranges


def step_of(scan: DataSet, options: Mapping[str, Any]) -> Callable[[], None]:
    """Return a function that computes the gradients of a training step, with crops of zeros."""
    folder, device = BUNDLES / BUNDLE / "configs", options["device"]
    settings = {"label_convention": scan.convention, "amp": automatic_amp(device, trains=True), **options}
    parser = read_config([folder / "train.yaml", folder / "recipe_robust.yaml"], settings)
    parser.get_parsed_content("imports")
    network, loss = parser.get_parsed_content("network"), parser.get_parsed_content("loss")
    compute = in_precision(network, parser.get_parsed_content("dtype"))
    crops = torch.zeros(options["batch_size"], len(scan.modalities), *options["patch_size"], device=device)

    def step() -> None:
        prediction = compute(crops)
        loss(prediction, torch.zeros_like(prediction)).backward()

    return step
