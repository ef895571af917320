"""The page of a report, report.html, with embedded style, charts and pictures."""

import math
import struct
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from common.errors import InputError
from common.inference.publishing import PAGE, is_earlier
from common.pages.charts import scores_chart
from common.pages.templates import png_uri, render
from scripts.report import charts as report_charts
from scripts.report.runs import Run, Stage, finite, mean
from scripts.yaml_text import as_yaml


def page(folder: Path, stages: Sequence[Stage]) -> str:
    """The page as HTML; an InputError if a picture is not a PNG."""
    filters: dict[str, Any] = {
        "as_yaml": as_yaml,
        "duration": _duration,
        "gibibytes": _gibibytes,
        "number": _number,
        "embedded": _embedded,
        "mean": mean,
    }
    runs = [run for stage in stages for run in stage.runs]
    children = {id(child) for stage in stages for child in stage.children}
    return render(
        Path(__file__).with_name("report.html.j2"),
        filters,
        title=folder.resolve().name,
        stages=stages,
        roots=[stage for stage in stages if id(stage) not in children],
        pages=_pages(folder, stages),
        numbers={stage.run.folder: number for number, stage in enumerate(stages, start=1)},
        chained=bool(children),
        begun=min((run.start for run in runs if run.start), key=datetime.timestamp, default=None),
        seconds=float(sum(finite(run.seconds for run in runs))) or math.nan,
        memory=max(finite(run.peak_memory_gib for run in runs), default=math.nan),
        interrupted=[_label(run) for run in runs if not run.finished],
        embedded_cohort=any(run.config.get("cohort") == "embedded" for run in runs),
        facts=_facts(runs),
        charts=report_charts,
        scores_chart=scores_chart,
    )


def _pages(folder: Path, stages: Sequence[Stage]) -> dict[Path, list[tuple[str, str]]]:
    """Names and links of evaluation pages by the folder of a stage's run; a page belongs to the nearest run."""
    found: dict[Path, list[tuple[str, str]]] = {stage.run.folder: [] for stage in stages}
    for page in sorted(path for path in folder.rglob(PAGE) if not is_earlier(path.relative_to(folder))):
        owner = next((parent for parent in page.parents if parent in found), None)
        if owner is not None:
            name = page.parent.relative_to(owner).as_posix()
            found[owner].append((PAGE if name == "." else f"{name}/{PAGE}", quote(page.relative_to(folder).as_posix())))
    return found


def _facts(runs: Sequence[Run]) -> dict[str, dict[str, list[str]]]:
    """Versions, commit and machine: fact -> value -> bundles with that value."""
    facts: dict[str, dict[str, list[str]]] = {}
    for run in runs:
        described = {
            **run.versions,
            "git commit": run.git_commit or "not recorded",
            "device": run.device or "not recorded",
            "processes": str(run.world_size),
        }
        for name, value in described.items():
            bundles = facts.setdefault(name, {}).setdefault(value, [])
            if run.bundle not in bundles:
                bundles.append(run.bundle)
    return facts


def _label(run: Run) -> str:
    return f"{run.bundle} (evaluation)" if run.workflow == "evaluate" else run.bundle


def _duration(seconds: float) -> str:
    """Format a duration: `12.3 s`, `4 min 05 s`, `2 h 07 min`."""
    if math.isnan(seconds):
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, hours = round(seconds) // 60, round(seconds / 60) // 60
    return f"{hours} h {round(seconds / 60) % 60:02} min" if hours else f"{minutes} min {round(seconds) % 60:02} s"


def _number(value: float | None) -> str:
    return f"{value:.3f}" if value is not None and math.isfinite(value) else "–"


def _gibibytes(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f} GiB"


def _embedded(picture: Path) -> dict[str, Any] | None:
    """A PNG as a data URI with its width and height in pixels; None if there is no file."""
    if not picture.is_file():
        return None
    content = picture.read_bytes()
    if content[:8] != b"\x89PNG\r\n\x1a\n" or len(content) < 24:
        raise InputError(f"{picture}: begins with {content[:8]!r}; expected a PNG picture")
    width, height = struct.unpack(">II", content[16:24])  # at a fixed position in every PNG
    return {"uri": png_uri(content), "width": width, "height": height}
