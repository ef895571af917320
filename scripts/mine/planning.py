"""Make a plan from a folder of scans, the machine's memory and speed, and a time limit."""

import os
from collections.abc import Mapping, Sequence
from math import ceil, prod
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from nibabel.affines import voxel_sizes
from numpy.typing import NDArray

from common import configs
from common.data.preparation import (
    OVERLAP_ON_ONE_GRID,
    SPACING,
    WITHOUT_SKULL,
    describe,
    measure_case,
    skull_in,
    spread,
    union,
)
from common.data.provenance import NAME
from common.data.regions import mapping_of, regions_of, symmetric_axes
from common.data.scan_checks import OFF_GRID, read_headers, read_scan
from common.data.volumes import axes_of, canonical, open_volume
from common.errors import InputError, show
from common.memory import device_memory, free_memory
from common.options import automatic_amp
from common.training.fitting import fitting_sizes, seconds_of_step, seconds_of_window
from common.training.step import precision
from common.values import AUTO
from scripts.datalists.regions import UNNAMED
from scripts.mine.data import LABELS, SHARE, Data, subjects_in_words

BUNDLE, RECIPE = "brats_finetune", "robust"
MOST = 50_000  # training steps; paper, section 2.4.2
VALIDATIONS = (2, 20)  # fewest and most in a training run; within these limits, they take a quarter of its time
BATCHES = {"cpu": (1,), "cuda": (1, 2)}  # crops per step; the paper uses 2, section 2.4.2
EDGES = (96, 64)  # edges of a crop in voxels, the paper's first
CONFIGS = ("train", "recipe_robust")
SPACINGS = (1.0, 4.0)  # mm, range of scripts.prepare
CPU: dict[str, Any] = {
    "model_size": "micro",
    "learning_rate": 6.0e-03,
}  # as in the quick start; a step of `small` takes a minute
GPU: dict[str, Any] = {"model_size": "small", "learning_rate": 1.0e-04}  # the paper's
WARMUP = {"cpu": 0.2, "cuda": 0.01}  # share of the iterations; longer for the higher learning rate
FINEST = {"cpu": 2.0, "cuda": 0.0}  # mm; smallest voxel edge in training, so that small crops show enough of a head
BRAIN = (140, 180, 140)  # mm; extent for estimates
SHIFT = 0.03  # largest standard deviation of a structure's centre over subjects, as a fraction of the volume's edge
SUBJECT = 40.0  # core seconds to prepare T1 and FLAIR of 2 mm; 35 to 57 measured
OVERHEAD = 1.2  # factor on a step's time, for reading, augmentation and optimiser
CACHED = 0.25  # share of the free memory that cached volumes may take
PREPARED = 2.0  # GiB of memory to prepare a subject


class Fit(NamedTuple):
    """Training options that fit a machine, with measured times of a step and of windows, and the free memory."""

    options: dict[str, Any]
    step: float  # seconds of an optimiser step
    validation: float  # seconds of a window, in the training's precision
    evaluation: float  # seconds of a window, in the prediction's precision
    memory: str  # description of the free memory


def make_plan(data: Data, person: str | None, hours: float, device: str) -> dict[str, Any]:
    """Make a plan for the scans of a folder; `person` is the value of the option --person.

    Raises an InputError if the smallest crop does not fit into memory.
    """
    if device == AUTO:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    sample = spread(data.cases)
    show(f"measuring {len(sample)} subjects, and a training step on this machine")
    cases = [data.case(subject) for subject in sample]
    is_raw, evidence = judged(cases)
    labelled = [data.case(subject) for subject in spread(data.cases, LABELS)]
    is_anatomy = are_structures(labelled, str(data.scan.convention))
    all_edges = edges_of(data)
    edges = [round(float(edge), 2) for edge in np.median(all_edges, axis=0)]
    prepare = preparation(data, edges) if is_raw else None
    kind = device.partition(":")[0]
    stored = [prepare["spacing"]] * 3 if prepare else edges
    spacing = [max(edge, FINEST[kind]) for edge in stored]
    fit = fit_training(data, device)
    patch = fit.options["patch_size"]
    windows = prod(max(1, ceil(2 * mm / (edge * n)) - 1) for mm, edge, n in zip(BRAIN, spacing, patch, strict=True))
    validation = windows * fit.validation * data.visits("validation")
    count = int(np.clip(900 * hours / validation, *VALIDATIONS))
    interval = max(1, int(min(MOST, max(1800 * hours, 3600 * hours - count * validation) / fit.step)) // count)
    train = training(data, fit, spacing, device) | {"iterations": count * interval, "val_interval": interval}
    train["warmup_iterations"] = int(train["iterations"] * WARMUP[kind])
    # Numbered structures may be left and right ones
    train["flips"] = [] if is_anatomy else symmetric_axes(str(data.scan.convention))
    varies = not is_raw and (all_edges.max(axis=0) / all_edges.min(axis=0)).max() > SPACING
    if varies or spacing != stored:
        train["spacing"] = spacing
    subjects = len(data.cases) / prepare["jobs"] if prepare else 0
    seconds = {
        "prepare": subjects * SUBJECT * len(data.modalities) / 2,
        "step": fit.step,
        "validation": count * validation,
        "evaluation": windows * 2 ** len(train["flips"]) * fit.evaluation * data.visits("testing"),
    }
    about = {
        "subjects": subjects_in_words(data),
        "people": data.scan.describe_people(),
        "labels": "structures: every region in every subject, at one place" if is_anatomy else "lesions",
        "found": f"{evidence}; median voxel {' x '.join(f'{edge:g}' for edge in edges)} mm",
        "memory": fit.memory,
        "a GPU": gpu_in_words(device),
    }
    return {
        "root": str(data.root.resolve()),
        "bundle": BUNDLE,
        "regions": mapping_of(str(data.scan.convention)),
        "prepare": prepare,
        "datalist": datalist(data, person, is_raw=is_raw),
        "check": {},
        "split": {"validation": SHARE, "testing": SHARE},
        "train": train,
        "evaluate": {name: train[name] for name in ("device", "num_workers", "cohort")}
        | ({"protocol": "dice"} if is_anatomy else {}),
        "about": {name: text for name, text in about.items() if text},
        "seconds": {name: round(value, 2) for name, value in seconds.items() if value},
    }


def judged(cases: Sequence[Mapping[str, Any]]) -> tuple[bool, str]:
    """Return whether scans are raw, and a description of the evidence."""
    problems = [problem for case in cases for problem in read_headers(case, "")[0] if problem.check in OFF_GRID]
    if problems:
        return True, "files of a subject on different grids"
    ranges = union([measure_case(case) for case in cases])
    return skull_in(ranges) != WITHOUT_SKULL or ranges["overlap"][0] < OVERLAP_ON_ONE_GRID, describe(ranges)


def are_structures(cases: Sequence[Mapping[str, Any]], convention: str) -> bool:
    """Whether the regions are structures: in every subject, at nearly the same place in the volume.

    A single label without a name counts as lesions, which are more common.

    From head to foot, centres depend on the field of view. Over the other two axes, standard deviations (root mean
    square) in public scans are 0.017 of the volume's edge for structures (ventricles, deep grey matter and hippocampus
    of 183 people), and 0.054 for white matter lesions (23 people).
    """
    if convention == UNNAMED:
        return False
    places = []
    for case in cases:
        scan, voxels = read_scan(case["label"])
        labels, _ = canonical(np.rint(voxels).astype(np.int32), scan.affine)
        for values in regions_of(convention).values():
            mask = np.isin(labels, [*values])
            if not mask.any():
                return False
            places.append(
                [indices.mean() / edge for indices, edge in zip(np.nonzero(mask)[:2], mask.shape[:2], strict=True)]
            )
    variances = np.var(np.reshape(places, (len(cases), -1, 2)), axis=0, ddof=1)
    return bool(np.sqrt(variances.mean(axis=-1)).max() < SHIFT)


def edges_of(data: Data) -> NDArray[np.float64]:
    """Return the voxel edges of all scans [N, 3] along right, anterior and superior, in mm."""
    edges = []
    for file in (file for subject in data.cases for file in data.case(subject)["image"]):
        affine = open_volume(file).affine
        edges.append(voxel_sizes(affine)[axes_of(affine)[:, 0].argsort()])
    return np.array(edges)


def preparation(data: Data, edges: Sequence[float]) -> dict[str, Any]:
    """Return the options of `scripts.prepare` for raw scans; the spacing is the geometric mean of `edges`, mm."""
    return _set(
        like="brats",  # rigid: heads and lesions keep their size
        modalities=",".join(data.modalities),
        brain=None if {"T1", "T1ce"} & {*data.modalities} else "none",  # deepbet needs a T1
        spacing=round(float(np.clip(np.prod(edges) ** (1 / 3), *SPACINGS)), 1),
        patterns={name: words for name, words in data.naming.spelled.items() if words} or None,
        labels=data.naming.label,
        jobs=max(1, min(os.cpu_count() or 1, int(free_memory() / 2**30 / PREPARED), len(data.cases))),
    )


def _set(**options: Any) -> dict[str, Any]:
    """Return the options that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def datalist(data: Data, person: str | None, is_raw: bool) -> dict[str, Any]:
    """Return the options of `scripts.datalists generic`; raw scans are prepared first and then have standard names."""
    spelled = {} if is_raw else data.naming.spelled
    names = [f"{name}={spelled[name]}" if name in spelled else name for name in data.modalities]
    label, layout = (None, None) if is_raw else (data.naming.label, data.scan.layout)
    return _set(modalities=",".join(names), label=label, layout=layout, person=person)


def fit_training(data: Data, device: str) -> Fit:
    """Choose the network for a device and the largest crops and batch that fit into its memory, and time a step."""
    is_gpu = device.startswith("cuda")
    edges = EDGES if is_gpu else EDGES[-1:]
    for edge in edges:
        options = (GPU if is_gpu else CPU) | {"patch_size": [edge] * 3}
        settings = options | {"modalities": list(data.modalities), "label_convention": data.scan.convention}
        settings |= {"device": device, "amp": automatic_amp(device, trains=True), "flips": []}
        parser = configs.read([configs.BUNDLES / f"{BUNDLE}/configs/{name}.yaml" for name in CONFIGS], settings)
        parser.get_parsed_content("imports")
        network, config = parser.get_parsed_content("network"), parser.ref_resolver
        values: Any = SimpleNamespace(**settings)
        if sizes := fitting_sizes(config, network, values, BATCHES["cuda" if is_gpu else "cpu"]):
            break
    else:
        problem = f"a crop with edges of {edges[-1]} voxels does not fit into the free memory"
        raise InputError(f"--device={device}", problem, "more memory")
    step = OVERHEAD * seconds_of_step(config, network, values, sizes[-1])
    free, total = (memory(device) / 2**30 for memory in (free_memory, device_memory))
    words = f"{free:.1f} of {total:.1f} GiB free on the {'GPU' if is_gpu else 'machine'}"
    validation = seconds_of_window(network, values, config.get_resolved_content("dtype"))
    evaluation = seconds_of_window(network, values, precision(automatic_amp(device), device))
    return Fit(options | {"batch_size": sizes[-1]}, step, validation, evaluation, words)


def training(data: Data, fit: Fit, spacing: Sequence[float], device: str) -> dict[str, Any]:
    """Return the options of the training run, except the numbers of iterations."""
    cores, volumes = os.cpu_count() or 1, len(data.cases) * (len(data.modalities) + 1)
    is_cached = volumes * prod(BRAIN) / prod(spacing) * 4 < CACHED * free_memory()  # float32
    return {
        "recipe": RECIPE,
        "modalities": list(data.modalities),
        **fit.options,
        "num_workers": min(8, cores - 1) if device.startswith("cuda") else 0,  # a step keeps all cores of a CPU busy
        "cache_rate": 1.0 if is_cached else 0.0,
        "device": device,
        "cohort": data.scan.name if NAME.fullmatch(data.scan.name) else "mine",
    }


def gpu_in_words(device: str) -> str:
    """Describe the GPU, or the training that a GPU would allow."""
    if device.startswith("cuda"):
        return f"there is one, {torch.cuda.get_device_name(device)}"
    edge = EDGES[0]
    return f"none here; with one: network {GPU['model_size']}, crops of {edge} voxels, up to {MOST:,} steps"
