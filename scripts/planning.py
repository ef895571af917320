"""Plan a training from scans, this machine and a time limit: `python -m scripts.planning RAW --output=F.yaml`."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from itertools import product
from math import ceil, prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from nibabel.affines import voxel_sizes
from nibabel.orientations import io_orientation
from torch.utils.benchmark import Timer

from common.data import preparation
from common.data.regions import CONVENTIONS, symmetric_axes
from common.data.scan_checks import files_in, read_scan
from common.data.volumes import open_volume
from common.errors import InputError, lacks_gpu_memory, show
from common.files import atomic_write, move_aside
from common.options import BUNDLES, automatic_amp, read_config
from common.ssl.networks import in_precision
from common.values import AUTO, DEVICE, NAME, names_of, or_auto
from scripts import cli
from scripts.datalists.build import Scan, scan_any
from scripts.datalists.files import mapping_of
from scripts.datalists.people import person_finder
from scripts.datalists.regions import UNNAMED, read_regions
from scripts.datalists.splits import Split
from scripts.layouts.names import LABEL
from scripts.layouts.patterns import naming
from scripts.pools import free_memory
from scripts.prepare.scans import need_preparation

BUNDLE = "brats_finetune"
HEADER = (
    "# Options of the commands of scripts.mine: docs/how-to/one-command.md. Edit, and run it with --output and --yes.\n"
)
SHARE = 0.15  # fraction of the people for validation, and for testing
MOST = 50_000  # training steps; paper, section 2.4.2
LEARNT = 60  # steps of the shortest training that learnt: Dice 0.88, docs/real.md; 12 steps gave at most 0.47
VALIDATIONS = (2, 20)  # fewest and most in a training run; within these limits, they take a quarter of its time
# On a CPU the quick start's network, whose step takes a second and that of `small` a minute, and on a GPU the paper's
NETWORKS: dict[str, dict[str, Any]] = {
    "cpu": {"model_size": "micro", "learning_rate": 6.0e-03},
    "cuda": {"model_size": "small", "learning_rate": 1.0e-04},
}
EDGES = {"cpu": (64,), "cuda": (96, 64)}  # edges of a crop in voxels, the paper's first
BATCHES = {"cpu": (1,), "cuda": (2, 1)}  # crops per step; the paper uses 2, section 2.4.2
FITS = 0.85  # fraction of a GPU's memory for a step; the rest is for validation and fragmentation
WARMUP = {"cpu": 0.2, "cuda": 0.01}  # share of the iterations; longer for the higher learning rate
FINEST = {"cpu": 2.0, "cuda": 0.0}  # mm; smallest voxel edge in training, so that small crops show enough of a head
BRAIN = (140, 180, 140)  # mm; extent for estimates
PREDICTION = 1 / 3  # of a crop's time in a step, whose backward pass takes twice as long
OVERHEAD = 1.2  # factor on a step's time, for reading, augmentation and optimiser
CACHED = 0.25  # share of the free memory that cached volumes may take
SAMPLE = 24  # subjects that are read


def plan(
    root: str,
    *,
    output: str,
    modalities: str | Sequence[str] | None = None,
    label: str | None = None,
    regions: str | None = None,
    person: str | None = None,
    hours: float = 8.0,
    device: str = AUTO,
) -> None:
    """Write the options of the commands that lead from scans with label maps to a model and its scores.

    Args:
        root: folder of the scans, each subject with a label map; skull-stripped scans on one grid are used as they are.
        output: the plan, a YAML file; an earlier one is moved aside.
        modalities: modalities of all subjects with a label map, as for python -m scripts.datalists generic.
        label: last words or pattern of label maps' names, as there.
        regions: YAML file that names each region, as there; by default one region for each label value.
        person: regular expression whose first group is the person in a subject's name, such as '(.+)_v[0-9]+'.
        hours: longest training time; the time of a step on this machine gives the number of steps.
        device: cpu or cuda; by default cuda if there is a GPU.
    """
    folder = Path(root).expanduser().resolve()
    device = or_auto(DEVICE).parse("device", device)
    device = device.replace(AUTO, "cuda" if torch.cuda.is_available() else "cpu")
    text = None if regions is None else read_regions(Path(regions).expanduser())
    finder = None if person is None else person_finder(person)
    names = naming(modalities, label)
    scan = scan_any(folder, naming=names, regions=text, person=finder, is_asking=False)
    if not (visits := [visit for visit in scan.visits if {LABEL, *scan.modalities} <= visit.files.keys()]):
        raise InputError(f"--root={root}", "no label map to learn from", "names that end with seg or mask, or --label")
    Split(SHARE, SHARE).draw(scan.people(visits))  # raises an InputError for fewer than 4 people
    cases = []
    for visit in preparation.spread(visits, SAMPLE):
        images = [str(folder / visit.files[name]) for name in scan.modalities]
        case = {"subject": visit.name, "image": images, "label": str(folder / str(visit.label))}
        with suppress(InputError):  # a damaged file, which the check reports
            for path in files_in(case):
                read_scan(path)
            cases.append(case)
    show(f"measuring {len(cases)} subjects, and a training step on this machine")
    is_raw, evidence = need_preparation(cases, scan.modalities)
    affines = [open_volume(file).affine for case in cases for file in case["image"]]
    # voxel edges along right, anterior and superior in mm
    edges = np.array([voxel_sizes(affine)[io_orientation(affine)[:, 0].argsort()] for affine in affines])
    median = [round(float(edge), 2) for edge in np.median(edges, axis=0)]
    prepare: dict[str, Any] = {
        "like": "brats",  # rigid: heads and lesions keep their size
        "modalities": ",".join(scan.modalities),
        "brain": None if {"T1", "T1ce"} & {*scan.modalities} else "none",  # deepbet needs a T1
        "spacing": round(float(np.clip(np.prod(median) ** (1 / 3), 1.0, 4.0)), 1),  # mm, the range of scripts.prepare
        "patterns": {name: words for name, words in names.words.items() if name != LABEL} or None,
        "labels": label,
        "jobs": max(1, min(os.cpu_count() or 1, int(free_memory() / 2**31), len(visits))),  # 2 GiB each
    }
    listed = {"modalities": prepare["modalities"], "person": person}
    if not is_raw:  # prepared scans have standard names
        listed |= {"modalities": ",".join(names_of(modalities or scan.modalities)), "label": label}
    train, seconds = training(scan, len(visits), [prepare["spacing"]] * 3 if is_raw else median, hours, device)
    if not is_raw and (edges.max(axis=0) / edges.min(axis=0)).max() > preparation.SPACING:
        train.setdefault("spacing", median)
    is_named = regions is not None or scan.convention in (UNNAMED, *CONVENTIONS)
    train["flips"] = symmetric_axes(str(scan.convention)) if is_named else []  # else perhaps left and right structures
    length = f"{train['iterations']} steps, about {timedelta(seconds=round(seconds))}"
    if train["iterations"] < LEARNT:
        length += f"; a trial of the commands only: the shortest training that learnt here had {LEARNT} steps"
    content = {
        "root": str(folder),
        "regions": mapping_of(str(scan.convention)),
        "prepare": prepare if is_raw else None,
        "datalist": listed,
        "check": {},
        "split": {"validation": SHARE, "testing": SHARE},
        "train": train,
        "evaluate": {name: train[name] for name in ("device", "num_workers", "cohort")},
        "about": {
            "subjects": f"{len(visits)} of {len(scan.visits)} with {', '.join(scan.modalities)} and a label map",
            "people": scan.describe_people(),
            "found": f"{evidence}; median voxel {' x '.join(f'{edge:g}' for edge in median)} mm",
            "training": length,
        },
    }
    target = Path(output).expanduser()
    move_aside(target)
    with atomic_write(target) as file:
        dumped = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)
        file.write_text(HEADER + dumped, encoding="utf-8")


def training(scan: Scan, cases: int, edges: Sequence[float], hours: float, device: str) -> tuple[dict[str, Any], float]:
    """Return the options of a training on this many cases with these voxel edges in mm, and its estimated seconds."""
    kind, cores = device.partition(":")[0], os.cpu_count() or 1
    for edge, size in product(EDGES[kind], BATCHES[kind]):
        options = NETWORKS[kind] | {"patch_size": [edge] * 3, "batch_size": size}
        trial = step_of(scan, options, device)
        if kind == "cpu" or fits_on_gpu(trial, device):
            break
    else:
        raise InputError(f"--device={device}", "the smallest crop does not fit into the free memory", "more memory")
    step = OVERHEAD * Timer("trial()", globals={"trial": trial}).timeit(2).mean
    spacing = [max(edge, FINEST[kind]) for edge in edges]
    crops = zip(BRAIN, spacing, options["patch_size"], strict=True)
    windows = prod(max(1, ceil(2 * mm / (edge * voxels)) - 1) for mm, edge, voxels in crops)
    validation = windows * PREDICTION * step / options["batch_size"] * max(1, SHARE * cases)
    count = int(np.clip(900 * hours / validation, *VALIDATIONS))
    interval = max(1, int(min(MOST, max(1800 * hours, 3600 * hours - count * validation) / step)) // count)
    cached = cases * (len(scan.modalities) + 1) * prod(BRAIN) / prod(spacing) * 4  # bytes in float32
    options |= {
        "recipe": "robust",
        "modalities": [*scan.modalities],
        "iterations": count * interval,
        "val_interval": interval,
        "warmup_iterations": int(count * interval * WARMUP[kind]),
        "num_workers": min(8, cores - 1) if kind == "cuda" else 0,  # a step keeps all cores of a CPU busy
        "cache_rate": 1.0 if cached < CACHED * free_memory() else 0.0,
        "device": device,
        "cohort": scan.name if NAME.fullmatch(scan.name) else "mine",
    }
    if spacing != edges:
        options["spacing"] = spacing
    return options, count * (interval * step + validation)


def step_of(scan: Scan, options: Mapping[str, Any], device: str) -> Callable[[], None]:
    """Return a function that takes a training step with crops of zeros."""
    folder = BUNDLES / BUNDLE / "configs"
    settings: dict[str, Any] = {"modalities": [*scan.modalities], "label_convention": scan.convention, "flips": []}
    settings |= {"device": device, "amp": automatic_amp(device, trains=True), **options}
    parser = read_config([folder / "train.yaml", folder / "recipe_robust.yaml"], settings)
    parser.get_parsed_content("imports")
    network, loss = parser.get_parsed_content("network"), parser.get_parsed_content("loss")
    compute = in_precision(network, parser.get_parsed_content("dtype"))
    window = [len(scan.modalities), *options["patch_size"]]

    def step() -> None:  # with memory for the optimiser's moments
        moments = [torch.zeros_like(parameter) for parameter in network.parameters() for _ in range(2)]
        prediction = compute(torch.zeros(options["batch_size"], *window, device=device))
        loss(prediction, torch.zeros_like(prediction)).backward()
        del moments

    return step


def fits_on_gpu(step: Callable[[], None], device: str) -> bool:
    """Return whether a training step leaves a share of the GPU's free memory."""
    torch.cuda.reset_peak_memory_stats(device)
    try:
        step()
    except RuntimeError as error:
        if not lacks_gpu_memory(error):  # cuBLAS and cuDNN have no exception of their own for it
            raise
        return False
    finally:
        torch.cuda.empty_cache()
    room = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)  # the GPU may be shared
    return torch.cuda.max_memory_reserved(device) <= FITS * room


if __name__ == "__main__":
    cli.run(plan, "planning")
