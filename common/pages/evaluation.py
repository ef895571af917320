"""Write evaluation.html, the page of an evaluation: a single file with styles and pictures, without scripts."""

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from ..errors import choice
from ..files import atomic_write
from ..inference.masks import scored_masks
from ..inference.panels import PLANES, centre_of, grey_levels, panel, png, side_by_side
from ..inference.publishing import PAGE
from ..inference.results import CaseFiles, Details, count_lesions, summarise
from ..metrics.cards import DICE, PRESENT, Metric
from ..metrics.statistics import FEWEST
from .charts import agreement_chart, scores_chart
from .scenes import scene_of
from .slices import link_of, write_case
from .templates import png_uri, render

SHOWN = 3  # largest number of worst cases, of median cases and of best cases
EDGE = 320  # pixels of a slice's longer edge
REFERENCE, PREDICTION = "#ffa200", "#2ba6ff"  # colours of the outlines
EDGES = (0, 10, 100, 1_000, 10_000, inf)  # mm3, edges of the volume bins
COUNTS = ("lesions", "voxels")  # units of which a case has a whole number
MEANS = {  # the two means of Dice, equal if all cases have the region (DIFF-23)
    "dice": DICE._replace(title="Dice, all cases"),
    PRESENT: DICE._replace(title="Dice, cases with the region"),
}


class Chosen(NamedTuple):
    """A case that the evaluation page shows, with its score and its rank, such as "Worst, 2 of 3"."""

    rank: str
    name: str
    score: float


def write_pages(
    folder: str | Path, details: Details, slices: str = "chosen", summary: Mapping[str, Any] | None = None
) -> Path:
    """Write evaluation.html and pages of slices (`common.pages.slices`); return the path of evaluation.html.

    `slices` selects the cases with a page of slices: none, chosen (those on evaluation.html) or all. `summary` is the
    content of summary.json, None to compute it.
    """
    page = Path(folder) / PAGE
    chosen = {case.name for case in choose(details)}
    names = choice("slices", slices, {"none": frozenset(), "chosen": chosen, "all": details.scores.keys()})
    for files in details.files:
        if files.name in names:
            write_case(folder, files, details)
    with atomic_write(page) as file:
        file.write_text(page_of(details, names, summary), encoding="utf-8")
    return page


def page_of(details: Details, linked: Collection[str] = (), summary: Mapping[str, Any] | None = None) -> str:
    """Return the page as HTML, with links to the slice pages of `linked` cases; read the files of the shown cases."""
    protocol = details.protocol
    files = {case.name: case for case in details.files}
    return render(
        Path(__file__).with_name("evaluation.html.j2"),
        {"digits": _with_digits, "score": _score, "percent": _percent, "lesions": count_lesions},
        made=details.made,
        details=details,
        links={name: link_of(name) for name in linked},
        protocol=protocol,
        summary=summary or summarise(details),
        means={metric.name: metric for metric in protocol.metrics} | MEANS,
        distributions=_distributions(details) if len(details.scores) > 1 else [],
        agreements=_agreements(details) if len(details.scores) >= FEWEST else [],
        volumes=_by_volume(details),
        shown=[(case, files[case.name], *_draw(files[case.name], details)) for case in choose(details)],
        colours={"reference": REFERENCE, "prediction": PREDICTION},
    )


def choose(details: Details) -> list[Chosen]:
    """Choose the worst, median and best cases by the protocol's first metric, averaged over regions; no case twice.

    Each group has up to three cases and at most a third of all cases; of two cases, both are chosen. Cases without a
    prediction or with only empty masks are left out.
    """
    primary = details.protocol.metrics[0]
    ranked = []
    for files in details.files:
        scores = details.scores[files.name].values()
        volumes = [volume for measured in scores for volume in measured.volumes]
        if files.prediction is not None and any(volumes):
            mean = float(np.mean([measured.values[primary.name] for measured in scores]))
            ranked.append((mean, sum(volumes), files.name))
    ranked.sort(reverse=not primary.more_is_better)
    count = len(ranked)
    if count < 3:
        labels = ("Worst", "Best") if count == 2 else ("The only case",)
        return [Chosen(label, name, mean) for label, (mean, _, name) in zip(labels, ranked, strict=False)]
    share = min(SHOWN, count // 3)
    groups = {"Worst": ranked[:share], "Median": ranked[(count - share) // 2 :][:share], "Best": ranked[::-1][:share]}
    return [
        Chosen(label if share == 1 else f"{label}, {number} of {share}", name, mean)
        for label, group in groups.items()
        for number, (mean, _, name) in enumerate(group, 1)
    ]


def _distributions(details: Details) -> list[tuple[str, Markup]]:
    values, charts = details.values, []
    for metric in details.protocol.metrics:
        by_region = {region: values[region, metric.name].tolist() for region in details.regions}
        charts.append((metric.title, scores_chart(metric.title, metric.unit, by_region)))
    return charts


def _agreements(details: Details) -> list[tuple[str, Markup]]:
    charts = []
    for region in details.regions:
        predicted, reference = np.array([scores[region].volumes for scores in details.scores.values()]).T / 1000
        charts.append((region, agreement_chart(region, predicted, reference)))
    return charts


def _by_volume(details: Details) -> list[dict[str, Any]]:
    """Count scored lesions, false lesions included, by region and volume in mm3; empty volume bins are left out."""
    rows = []
    for region in details.regions:
        lesions = [lesion for scores in details.scores.values() for lesion in scores[region].lesions]
        for low, high in pairwise(EDGES):
            inside = [lesion for lesion in lesions if lesion.is_scored and low <= lesion.volume < high]
            if inside:
                rows.append({"region": region, "low": low, "high": high, **count_lesions(inside)})
    return rows


def _draw(files: CaseFiles, details: Details) -> tuple[Sequence[str], list[tuple[Any, ...]]]:
    """Draw each region of a case in three planes through the reference or, if that is empty, the prediction.

    Return the faults of the images and, for each region: name, scores, modality, picture, and the missed and false
    lesions with their numbers.
    """
    predictions, references, affine = scored_masks(files, details)
    scene = scene_of({"reference": references, "prediction": predictions}, affine, files.images)
    blank = np.zeros(scene.shape, np.float32)
    rows = []
    for region in details.regions:
        masks = [scene.masks[layer][region] for layer in ("reference", "prediction")]
        largest = next((mask for mask in masks if mask.any()), scene.union)
        modality, centre = scene.background(largest, details.background), centre_of(largest)
        levels = grey_levels(scene.images.get(modality or "", blank))
        outlines = dict(zip((REFERENCE, PREDICTION), masks, strict=True))
        slices = zip(PLANES, centre[::-1], strict=True)
        pixels = side_by_side([panel(levels, plane, at, scene.spacing, outlines, EDGE) for plane, at in slices])
        measured = details.scores[files.name][region]
        numbered = enumerate(measured.lesions, 1)
        wrong = [(number, lesion) for number, lesion in numbered if lesion.is_scored and not lesion.is_found]
        rows.append((region, measured, modality, png_uri(png(pixels)), wrong))
    return scene.faults, rows


def _percent(part: int, whole: int) -> str:
    """Format a percentage, such as 67 %; a dash if `whole` is 0."""
    return f"{part / whole:.0%}".replace("%", " %") if whole else "–"


def _score(value: float, metric: Metric) -> str:
    """Format a case's value of a metric."""
    return _with_digits(value, 0 if metric.unit in COUNTS else metric.digits)


def _with_digits(value: float | None, digits: int) -> str:
    """Format a number; None becomes a dash."""
    return "–" if value is None else f"{value:.{digits}f}"
