"""One self-contained HTML page about a folder of runs: `python -m scripts.report RUN_DIR`."""

import math
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml
from markupsafe import Markup

from common.errors import InputError, show
from common.files import atomic_write, digest, expand_home, read_json
from common.inference.publishing import PAGE, SUMMARY, is_published
from scripts import cli

MLFLOW = {"mlruns", "mlartifacts"}  # folders with MLflow's copies of records
RATES = {"learning_rate": "learning rate", "seconds_per_step": "seconds per step"}
FIELDS = (  # of a record, which may lack some
    *("finished", "command", "started", "seconds", "peak_memory_gib", "peak_gpu_memory_gib", "device", "world_size"),
    *("versions", "git_commit", "config", "checkpoints", "weights", "train", "validation", "pictures"),
)
RECORD = {
    "type": "object",
    "required": ["bundle", "workflow"],
    "properties": {"bundle": {"type": "string"}, "workflow": {"enum": ["train", "evaluate"]}},
}


def report(run_dir: str) -> None:
    """Write RUN_DIR/report.html: a page with the scores, losses, pictures and weights of each run in or below a folder.

    Args:
        run_dir: folder of a run, with a `run.json`, or a folder that contains runs at any depth.
    """
    folder = expand_home(run_dir, f"--run_dir={run_dir}")
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected a folder that holds run.json files")
    inside = [path.relative_to(folder) for path in sorted(folder.rglob("run.json"))]
    runs = [read_run(folder / path) for path in inside if not MLFLOW & {*path.parts} and is_published(path)]
    if not runs:
        raise InputError(f"{folder}: no run.json in or below this folder; expected the folder of at least one run")
    from common.data.provenance import UNNAMED  # late imports: slow
    from common.made import origin_of
    from common.pages.templates import render

    runs.sort(key=lambda run: run["started"] or "")
    for run in runs:
        summary = run["folder"] / SUMMARY
        is_scored = run["workflow"] == "evaluate" and summary.is_file()
        run["scores"] = read_json(summary, "the summary of an evaluation") if is_scored else {}
        page = run["folder"] / PAGE
        run["page"] = quote(page.relative_to(folder).as_posix()) if page.is_file() else ""
        weights = {Path(path): sha256 for path, sha256 in run["checkpoints"].items()}
        run["is_outdated"] = any(path.is_file() and digest(path) != sha256 for path, sha256 in weights.items())
        run["charts"] = charts_of(run)
        run["images"] = {Path(path).stem: picture_of(run["folder"], path) for path in run["pictures"] or []}
    filters: dict[str, Callable[..., Any]] = {
        "as_yaml": partial(yaml.safe_dump, default_flow_style=None, sort_keys=False, width=110),
        "duration": lambda seconds: "–" if seconds is None else timedelta(seconds=round(seconds)),
        "number": lambda value, form="{:.3f}": "–" if value is None or math.isnan(value) else form.format(value),
        "date": lambda text: f"{datetime.fromisoformat(text):%d %B %Y at %H:%M %Z}" if text else "–",
    }
    made = origin_of({}, any(run.get("made_up") for run in runs))
    template = Path(__file__).with_suffix(".html.j2")
    cohorts = {str((run["config"] or {}).get("cohort", UNNAMED)) for run in runs} - {UNNAMED}
    title = cohorts.pop() if len(cohorts) == 1 else folder.resolve().name
    content = render(template, filters, made=made, title=title, runs=runs)
    with atomic_write(folder / "report.html") as file:
        file.write_text(content, encoding="utf-8")
    show(folder / "report.html")


def read_run(path: Path) -> dict[str, Any]:
    """Read a `run.json` (see `common.training.RunRecord`); add its `folder`."""
    content = dict.fromkeys(FIELDS) | read_json(path, "the record of a run", RECORD) | {"folder": path.parent}
    return content | {name: content[name] or {} for name in ("train", "validation", "checkpoints", "versions")}


def charts_of(run: dict[str, Any]) -> list[Markup]:
    """Draw a run's loss terms, learning rate, seconds per step, and metrics on the held-out subjects, by unit."""
    from common.pages.charts import curves_chart, smooth

    train, validation = run["train"], run["validation"]
    at, held_out, metrics = train.get("iteration", []), validation.get("iteration", []), validation.get("metrics", {})
    losses, charts = train.get("loss", {}), []
    for term, values in losses.items():
        curves = [("training, smoothed", at, smooth(values))]
        curves += [("held-out", held_out, metrics[term])] if term in metrics else []
        charts.append(curves_chart(f"{run['bundle']}: {term} loss over the iterations", term, curves))
    for name, title in RATES.items():
        if train.get(name):
            charts.append(
                curves_chart(f"{run['bundle']}: {title} over the iterations", title, [(title, at, train[name])])
            )
    panels: dict[str, list[tuple[str, Any, Any]]] = {}
    for name, values in metrics.items():
        if name not in losses and not name.endswith("_present"):
            kind = next(
                (word for word in ("lesionwise_hd95", "hd95", "cosine") if name.endswith(word)), "score, such as Dice"
            )
            panels.setdefault(f"{kind} (mm)" if kind.endswith("hd95") else kind, []).append((name, held_out, values))
    for label, curves in panels.items():
        charts.append(curves_chart(f"{run['bundle']}: {label} of held-out subjects over the iterations", label, curves))
    return charts


def picture_of(folder: Path, path: str) -> str | None:
    """Return a picture of a run as a data URI; None if it is missing, no PNG, or outside the run's folder."""
    from common.pages.templates import png_uri

    file = folder / path
    content = file.read_bytes() if file.resolve().is_relative_to(folder.resolve()) and file.is_file() else b""
    return png_uri(content) if content.startswith(b"\x89PNG") else None


if __name__ == "__main__":
    cli.run(report, "report")
