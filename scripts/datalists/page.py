"""The page of a check (findings.html) and its pictures, for `python -m scripts.datalists check`.

The page is self-contained; it shares its style with `scripts.report`.
"""

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import nibabel
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator, PercentFormatter

from common.data.scan_checks import CHECKS, Problem
from common.inference.panels import PLANES, centre_of, grey_levels, panel, png, side_by_side
from common.pages.charts import SERIES, STYLE, WIDTH, svg
from common.pages.scenes import read_volume
from common.pages.templates import png_uri, render
from scripts.datalists.examine import LESION

EDGE = 128  # pixels of the longest edge of a volume in a picture
NOT_FINITE = "#ff00ff"
LINES = ("-", "--", ":", "-.")  # line styles of the splits, in addition to colours
POINTS = 400  # at most, per curve


def page(
    result: Any, suspects: Sequence[Mapping[str, Any]], cohort: Sequence[Problem], thumbnails: Mapping[int, bytes]
) -> str:
    """The page as HTML.

    Each suspect has a "place", "case", "problems" and "picture". `thumbnails` are PNGs by case index, empty if missing.
    """
    return render(
        Path(__file__).with_name("check.html.j2"),
        result=result,
        suspects=suspects,
        cohort=cohort,
        severities=CHECKS,
        thumbnails=thumbnails,
        montage=_montage(result, thumbnails, {suspect["place"] for suspect in suspects}),
        lesions=_lesions(result.volumes),
        charts=_charts(result.volumes),
    )


def _montage(result: Any, thumbnails: Mapping[int, bytes], below: Collection[int]) -> dict[str, list[dict[str, Any]]]:
    """The subjects of the montage by split; `below` lists those with findings on the page."""
    severities: dict[int, str] = {}
    for place, problem in result.found:
        severities[place] = min(severities.get(place, "warning"), CHECKS[problem.check])  # an error comes first
    subjects: dict[str, list[dict[str, Any]]] = {}
    for place, content in thumbnails.items():
        subject = {"place": place, "name": result.cases[place]["subject"], "severity": severities.get(place)}
        subject |= {"picture": png_uri(content) if content else None, "is_below": place in below}
        subjects.setdefault(result.cases[place]["split"], []).append(subject)
    return subjects


def _lesions(volumes: Mapping[str, Mapping[str, Sequence[float]]]) -> list[dict[str, Any]]:
    """A row of figures for each region and split; volumes include only subjects with the region."""
    rows = []
    for region, by_split in volumes.items():
        for split, values in by_split.items():
            there = [value for value in values if value > 0]
            row = {"region": region, "split": split, "subjects": len(values), "without": len(values) - len(there)}
            names = ("smallest", "lower quartile", "median", "upper quartile", "largest")
            figures = np.quantile(there, (0, 0.25, 0.5, 0.75, 1)) if there else [None] * len(names)
            rows.append(row | {"figures": dict(zip(names, figures, strict=True))})
    return rows


def _charts(volumes: Mapping[str, Mapping[str, Sequence[float]]]) -> list[Markup]:
    """For each region a chart of the cumulative fraction of subjects by volume in mL, one line per split."""
    return [_chart(region, by_split) for region, by_split in volumes.items() if any(map(any, by_split.values()))]


def _chart(region: str, by_split: Mapping[str, Sequence[float]]) -> Markup:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
        axes = figure.subplots()
        for (split, values), colour, line in zip(by_split.items(), SERIES, LINES, strict=False):
            there = np.sort([value for value in values if value > 0])
            if len(there):
                shares = np.linspace(0, 1, min(len(there), POINTS) + 1)[1:]
                sizes = np.quantile(there, shares, method="inverted_cdf")
                axes.step([sizes[0], *sizes], [0, *shares], where="post", color=colour, linestyle=line, label=split)
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda volume, _: f"{volume:g}"))
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.set_xlabel(f"{region}, mL")
        axes.set_ylabel("subjects with at most this")
        axes.legend()
        return svg(figure, f"Distribution of the volume of {region} in each split")


def draw(order: tuple[Mapping[str, Any], str], root: str) -> tuple[str, str] | None:
    """Draw three planes of a file (or of the first readable image); return the file and a data URI, or None.

    The planes run through the middle of the non-finite voxels (outlined in magenta), else of the label (red), else of
    the volume.
    """
    case, file = order
    label = _volume(root, case.get("label"))
    for image in dict.fromkeys(filter(None, [file, *case["image"]])):
        volume = None if image == case.get("label") else _volume(root, image)
        if volume is not None:
            return image, _picture(*volume, label[0] if label is not None else None)
    return (case["label"], _picture(*label, label[0])) if label is not None else None


def _volume(root: str, file: str | None) -> tuple[np.ndarray, np.ndarray] | None:
    """Voxels [x, y, z] in the orientation nearest to RAS, and spacing in mm."""
    if file is None:
        return None
    found = read_volume(os.path.join(root, file))  # noqa: PTH118
    return found and (found[0], nibabel.affines.voxel_sizes(found[1]))


def _picture(volume: np.ndarray, spacing: np.ndarray, label: np.ndarray | None) -> str:
    odd = ~np.isfinite(volume)
    mask = label > 0 if label is not None and label.shape == volume.shape else np.zeros_like(odd)
    centre = centre_of(odd if odd.any() else mask)
    levels, outlines = grey_levels(volume), {LESION: mask, NOT_FINITE: odd}
    panels = [panel(levels, plane, at, spacing, outlines, EDGE) for plane, at in zip(PLANES, centre[::-1], strict=True)]
    return png_uri(png(side_by_side(panels)))
