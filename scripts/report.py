"""One self-contained HTML page about a folder of runs: `python -m scripts.report RUN_DIR`."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import matplotlib
import numpy as np
import yaml
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from common.errors import InputError, show
from common.files import digest, read_json
from common.inference.evaluation import EARLIER, PAGE, SUMMARY
from common.made import origin_of
from scripts import cli
from scripts.pages.templates import write_page
from scripts.provenance import UNNAMED

HIDDEN = ("mlruns", "mlartifacts", f"{EARLIER}-")  # beginnings of folders with copies of records and earlier results
RATES = {"learning_rate": "learning rate", "seconds_per_step": "seconds per step"}
SERIES = ("#1f6fb4", "#c2560b", "#2a7f4f", "#7b4aa8")
STYLE: Any = {"text.parse_math": False, "axes.grid": True, "axes.axisbelow": True, "grid.color": "#d8dee6"}
STYLE |= {"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False}
RECORD = {"type": "object", "required": ["bundle", "workflow"]}


def report(run_dir: str) -> None:
    """Write RUN_DIR/report.html: a page with the scores, losses, pictures and weights of each run in or below a folder.

    Args:
        run_dir: folder of a run, with a `run.json`, or a folder that contains runs at any depth.
    """
    folder = Path(run_dir).expanduser()
    inside = [path.relative_to(folder) for path in sorted(folder.rglob("run.json"))]
    runs = [read_run(folder, path) for path in inside if not any(part.startswith(HIDDEN) for part in path.parts)]
    if not runs:
        raise InputError(folder, "no run.json in or below this folder", "the folder of at least one run")
    runs.sort(key=lambda run: run["started"] or "")
    cohorts = {str((run["config"] or {}).get("cohort", UNNAMED)) for run in runs} - {UNNAMED}
    title = cohorts.pop() if len(cohorts) == 1 else folder.resolve().name
    made, template = origin_of({}, any(run.get("made_up") for run in runs)), Path(__file__).with_suffix(".html.j2")
    write_page(folder / "report.html", template, made=made, title=title, runs=runs)
    show(folder / "report.html")


def read_run(root: Path, path: Path) -> dict[str, Any]:
    """Read a `run.json` (see `common.training.RunRecord`) below a root; add scores, pictures with charts, and links."""
    folder = (root / path).parent
    run: dict[str, Any] = defaultdict(lambda: None, read_json(root / path, "the record of a run", RECORD))
    run |= {name: run.get(name) or {} for name in ("train", "validation", "checkpoints", "versions")}
    is_scored = run["workflow"] == "evaluate" and (folder / SUMMARY).is_file()
    run["scores"] = read_json(folder / SUMMARY, "the summary of an evaluation") if is_scored else {}
    run["page"] = quote((path.parent / PAGE).as_posix()) if (folder / PAGE).is_file() else ""
    run["duration"] = None if run["seconds"] is None else timedelta(seconds=round(run["seconds"]))
    run["settings"] = yaml.safe_dump(run["config"], default_flow_style=None, sort_keys=False, width=110)
    weights = {Path(file): sha256 for file, sha256 in run["checkpoints"].items()}
    run["is_outdated"] = any(file.is_file() and digest(file) != sha256 for file, sha256 in weights.items())
    pictures = [folder / picture for picture in run["pictures"] or []]
    run["images"] = draw_charts(run) | {file.stem: file.read_bytes() for file in pictures if file.is_file()}
    return run


def draw_charts(run: Mapping[str, Any]) -> dict[str, bytes]:
    """Draw a run's loss terms, learning rate, seconds per step, and metrics on the held-out subjects, by unit."""
    train, validation = run["train"], run["validation"]
    at, held_out, metrics = train.get("iteration", []), validation.get("iteration", []), validation.get("metrics", {})
    panels: dict[str, dict[str, tuple[Any, Any]]] = {}
    for term, values in train.get("loss", {}).items():
        panels[term] = {"training": (at, values)} | ({"held-out": (held_out, metrics[term])} if term in metrics else {})
    for name, title in RATES.items():
        if train.get(name):
            panels[title] = {title: (at, train[name])}
    for name, values in metrics.items():
        if name not in train.get("loss", {}) and not name.endswith("_present"):
            unit = next((word for word in ("hd95", "cosine") if name.endswith(word)), "score, such as Dice")
            panels.setdefault(unit.replace("hd95", "hd95 (mm)"), {})[name] = (held_out, values)
    return {f"{unit} over the iterations": draw_curves(unit, curves) for unit, curves in panels.items()}


def draw_curves(unit: str, curves: Mapping[str, tuple[Sequence[int], ArrayLike]]) -> bytes:
    """Draw named curves, (iterations, values), as PNG; None is a gap."""
    content = BytesIO()
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.8, 2.9), layout="constrained")
        axes = figure.add_subplot()
        for index, (name, (iterations, values)) in enumerate(curves.items()):
            marker = "." if len(iterations) <= 50 else ""
            axes.plot(iterations, np.array(values, float), label=name, color=SERIES[index % 4], marker=marker)
        axes.set(xlabel="iteration", ylabel=unit)
        axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1), ncols=4, borderaxespad=0)
        figure.savefig(content, format="png", dpi=200)
    return content.getvalue()


if __name__ == "__main__":
    cli.run(report, "report")
