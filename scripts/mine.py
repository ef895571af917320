"""From your scans and label maps to a model and its evaluation: `python -m scripts.mine RAW --output=DIR`."""

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined

from common import ROOT
from common.data import preparation
from common.data.names import files_in
from common.data.volumes import AFFINE_TOLERANCE, open_volume
from common.errors import InputError, show
from common.files import atomic_write, existing_folder, move_aside
from common.options import automatic_amp
from common.values import AUTO, DEVICE, NAME, names_of, or_auto
from scripts import cli
from scripts.configs import BUNDLES, read_config
from scripts.datalists.build import REGIONS, scan_any
from scripts.datalists.files import mapping_of
from scripts.datalists.splits import Split
from scripts.layouts.paths import LABEL, naming
from scripts.layouts.reading import DataSet
from scripts.pools import free_memory

CONFIGS = BUNDLES / "brats_finetune/configs"
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


def mine(
    root: str,
    *,
    output: str,
    yes: bool = False,
    modalities: str | Sequence[str] | None = None,
    label: str | None = None,
    regions: str | None = None,
    person: str | None = None,
    hours: float = 8.0,
    device: str = AUTO,
) -> None:
    """Plan the commands from your scans to a model and its scores and, with --yes, run them.

    The plan is a shell script, OUTPUT/plan.sh, with regions.yaml beside it. You may edit both: they stay until you give
    other options, which move them aside. Repeat the command to continue.

    Args:
        root: folder of the scans, each subject with a label map; skull-stripped scans on one grid are used as they are.
        output: folder of the plan and all results.
        yes: run the plan.
        modalities: modalities to take, as for python -m scripts.datalists generic.
        label: last words or pattern of label maps' names, as there.
        regions: YAML file that names each region, as there; by default regions.yaml in `root`, or lesion if all labels
            are 1.
        person: regular expression whose first group is the person in a subject's name, such as '(.+)_v[0-9]+'.
        hours: time for the training; the time of a step on this machine gives the number of steps.
        device: cpu or cuda; by default cuda if there is a GPU.
    """
    scans, folder = existing_folder(root, f"--root={root}", "a folder of scans").resolve(), Path(output).expanduser()
    script = folder.resolve() / "plan.sh"
    options = [str(scans), modalities, label, regions, person, hours, device]
    title = f"# Plan of scripts.mine for {options}; see docs/how-to/one-command.md"
    if not script.is_file() or script.read_text(encoding="utf-8").splitlines()[:1] != [title]:
        device, names = or_auto(DEVICE).parse("device", device), naming(modalities, label)
        data = scan_any(scans, names, regions, person)
        values = plan(data, hours, device) | {"root": scans, "output": script.parent, "label": label, "person": person}
        values["patterns"] = {name: words for name, words in names.words.items() if name != LABEL}
        values["listed"] = names_of(modalities or data.modalities)
        shell = Environment(trim_blocks=True, undefined=StrictUndefined, finalize=shell_word)
        template = shell.from_string(Path(__file__).with_name("plan.sh.j2").read_text(encoding="utf-8"))
        text = yaml.safe_dump(mapping_of(str(data.convention)), sort_keys=False, default_flow_style=None)
        for file, content in (script.with_name(REGIONS), text), (script, f"{title}\n{template.render(values)}\n"):
            move_aside(file)
            with atomic_write(file) as temporary:
                temporary.write_text(content, encoding="utf-8")
    show("", *script.read_text(encoding="utf-8").splitlines())
    if yes and (status := subprocess.run(["bash", script], check=False).returncode):
        raise SystemExit(status)


def plan(data: DataSet, hours: float, device: str) -> dict[str, Any]:
    """Return the values of plan.sh.j2 that depend on the scans and this machine."""
    import torch  # late import: slow

    device = device.replace(AUTO, "cuda" if torch.cuda.is_available() else "cpu")
    kind = device.partition(":")[0]
    ranges = ranges_of(cases_of(data), data.modalities)
    show(f"scans: {'raw, to be prepared' if ranges is None else preparation.describe(ranges)}")
    train = TRAINING[kind] | {"modalities": data.modalities, "device": device, "num_workers": WORKERS[kind]}
    train |= length_of(OVERHEAD * seconds_of_step(train, data.convention), hours, kind)
    if ranges is not None:
        train["spacing"] = [max(edge, SPACING[kind]) for edge in ranges["spacing"][0]]
    return {
        "checkout": ROOT,
        "programs": Path(sys.executable).parent,
        "is_raw": ranges is None,
        "spacing": SPACING[kind],
        "jobs": max(1, min(os.cpu_count() or 1, free_memory() // 2**31)),  # 2 GiB each
        "share": SHARE,
        "cohort": data.name if NAME.fullmatch(data.name) else "mine",
        "train": train,
    }


def shell_word(value: object) -> str:
    """Quote a value for a shell; the items of a list are joined with commas."""
    return shlex.quote(",".join(map(str, value)) if isinstance(value, list | tuple) else str(value))


def cases_of(data: DataSet) -> list[dict[str, Any]]:
    """Return a few visits that have a label map and all images, as cases; refuse a data set with too few people."""
    visits = [visit for visit in data.subjects.values() if {LABEL, *data.modalities} <= visit.files.keys()]
    if not visits:
        problem = "no label map to learn from"
        raise InputError(f"--root={data.root}", problem, "names that end with seg or mask, or --label")
    reserved = {visit.person for visit in data.subjects.values() if visit.is_test}
    Split(SHARE, SHARE).draw(sorted({visit.person for visit in visits} - reserved))  # refuses fewer than 4 people
    return [
        {"subject": visit.name, "image": [str(Path(data.root, visit.files[name])) for name in data.modalities]}
        for visit in preparation.spread(visits)
    ]


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
    from common.training.plan import measure_case  # late import: slow

    for case in cases:
        first, *others = map(open_volume, files_in(case))
        for scan in others:
            if scan.shape != first.shape or abs(scan.affine - first.affine).max() > AFFINE_TOLERANCE:
                return None
    ranges = preparation.union([measure_case(case, modalities) for case in cases])
    is_apart = ranges["overlap"][0] < preparation.OVERLAP_ON_ONE_GRID
    return None if is_apart or preparation.skull_in(ranges) != preparation.WITHOUT_SKULL else ranges


def seconds_of_step(options: Mapping[str, Any], convention: str | None) -> float:
    """Return the time in which a training step computes its gradients, with crops of zeros."""
    import torch  # late imports: slow
    from torch.utils.benchmark import Timer

    from common.ssl.networks import in_precision

    device = options["device"]
    settings = {**options, "label_convention": convention, "amp": automatic_amp(device, trains=True)}
    parser = read_config([CONFIGS / "train.yaml", CONFIGS / "recipe_robust.yaml"], settings)
    parser.get_parsed_content("imports")
    network, loss = parser.get_parsed_content("network"), parser.get_parsed_content("loss")
    crops = torch.zeros(options["batch_size"], len(options["modalities"]), *options["patch_size"], device=device)
    step = "prediction = compute(crops)\nloss(prediction, torch.zeros_like(prediction)).backward()"
    names = {"compute": in_precision(network, parser.get_parsed_content("dtype")), "crops": crops, "loss": loss}
    return Timer(step, globals=names, num_threads=torch.get_num_threads()).timeit(2).mean


if __name__ == "__main__":
    cli.run(mine, "mine")
