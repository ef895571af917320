"""The page of a report, report.html, with embedded style, charts and pictures."""

import math
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from urllib.parse import quote

import yaml

from common.inference.publishing import PAGE, is_published
from common.made import made_by
from common.pages.templates import png_uri, render
from scripts.report import charts
from scripts.report.runs import Stage, mean


def page(folder: Path, stages: Sequence[Stage]) -> str:
    """Return the page as HTML."""
    runs = [run for stage in stages for run in stage.runs]
    return render(
        Path(__file__).with_name("report.html.j2"),
        {
            "as_yaml": partial(yaml.safe_dump, default_flow_style=None, sort_keys=False, width=110),
            "duration": _duration,
            "number": _number,
            "mean": mean,
            "embedded": lambda picture: png_uri(picture.read_bytes()) if is_png(picture) else None,
        },
        made=made_by({}, any(run.made_up for run in runs)),
        title=folder.resolve().name,
        stages=stages,
        pages=_pages(folder, stages),
        interrupted=[f"{run.bundle} ({run.workflow})" for run in runs if not run.finished],
        charts=charts,
    )


def _pages(folder: Path, stages: Sequence[Stage]) -> dict[Path, list[tuple[str, str]]]:
    """Return the names and links of evaluation pages by run folder; a page belongs to the nearest run around it."""
    pages: dict[Path, list[tuple[str, str]]] = {stage.run.folder: [] for stage in stages}
    for page in sorted(path for path in folder.rglob(PAGE) if is_published(path.relative_to(folder))):
        owner = next((parent for parent in page.parents if parent in pages), None)
        if owner is not None:
            link = quote(page.relative_to(folder).as_posix())
            pages[owner].append((page.relative_to(owner).as_posix(), link))
    return pages


def _duration(seconds: float) -> str:
    return "–" if math.isnan(seconds) else str(timedelta(seconds=round(seconds)))


def is_png(path: Path) -> bool:
    """Whether a file exists and has the first bytes of a PNG."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"\x89PNG"


def _number(value: float | None, form: str = "{:.3f}") -> str:
    return "–" if value is None or math.isnan(value) else form.format(value)
