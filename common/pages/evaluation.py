"""The page of an evaluation, evaluation.html: one file with its style and pictures, and no script."""

from collections import Counter
from collections.abc import Collection, Sequence
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from ..errors import choice
from ..files import atomic_write, check_writable_folder
from ..inference.masks import scored_masks
from ..inference.panels import PLANES, centre_of, grey_levels, panel, png, side_by_side
from ..inference.publishing import PAGE
from ..inference.results import CaseFiles, Details, count_lesions, summarise
from ..metrics.protocols import PRESENT, Protocol
from .charts import scores_chart
from .scenes import scene_of
from .slices import link_of, write_case
from .templates import png_uri, render

SHOWN = 3  # number of worst, median and best cases, each
EDGE = 320  # pixels of a slice's longer edge
REFERENCE, PREDICTION = "#ffa200", "#2ba6ff"  # colours of the outlines
EDGES = (0, 10, 100, 1_000, 10_000, inf)  # mm3, edges of the bins of volume
METRICS = {
    "dice": "Dice",
    "hd95": "HD95",
    "lesion_count_difference": "Difference of lesion counts",
    "lesion_f1": "Lesion F1",
    "lesionwise_dice": "Lesion-wise Dice",
    "lesionwise_hd95": "Lesion-wise HD95",
    "volume_difference": "Volume difference",
}
MEANS = METRICS | {"dice": "Dice, all cases", PRESENT: "Dice, cases with the region"}  # two means of one metric
NAMES = {"atlas": "ATLAS v2.0", "brats": "BraTS 2023, lesion-wise", "dice": "Dice of the region", "isles": "ISLES'22"}
MEANINGS = {
    "atlas": "A lesion is a 6-connected component of the reference; it is found if it shares a voxel with the "
    "prediction. Dice is computed over all voxels; lesion F1 counts lesions of any size.",
    "brats": "Each lesion of the reference is scored separately, against the predicted components that touch its "
    "dilation. A missed or false lesion of any size counts as Dice 0 and as the penalty in HD95.",
    "dice": "Dice is computed over all voxels of a region, without regard to lesions.",
    "isles": "A lesion is a 26-connected component of the reference; it is found if it shares a voxel with the "
    "prediction. Dice is computed over all voxels; lesion F1 counts lesions of any size.",
}
DIGITS = {"1": 3, "mm": 1, "ml": 2, "lesions": 2, "voxels": 0}  # by unit


class Chosen(NamedTuple):
    """A case to show, its score, and the reason, such as "Worst, 2 of 3"."""

    rank: str
    name: str
    score: float


def write_pages(folder: str | Path, details: Details, slices: str = "chosen") -> Path:
    """Write evaluation.html, and return its path; also write pages to scroll through cases (`common.pages.slices`).

    `slices` selects their cases: none, chosen (those that evaluation.html shows) or all.
    """
    page = Path(folder) / PAGE
    check_writable_folder(folder, str(folder), [PAGE])
    chosen = {case.name for case in choose(details)}
    names = choice("slices", slices, {"none": frozenset(), "chosen": chosen, "all": details.scores.keys()})
    for files in details.files:
        if files.name in names:
            write_case(folder, files, details)
    with atomic_write(page) as file:
        file.write_text(page_of(details, names), encoding="utf-8")
    return page


def page_of(details: Details, linked: Collection[str] = ()) -> str:
    """Draw the page as HTML, with links to the pages of slices of `linked` cases; the shown cases' files are read."""
    protocol = details.protocol
    files = {case.name: case for case in details.files}
    return render(
        Path(__file__).with_name("evaluation.html.j2"),
        {"figure": _figure, "lesions": count_lesions},
        made=details.made,
        details=details,
        links={name: link_of(name) for name in linked},
        protocol=NAMES.get(protocol.name, protocol.name),
        meaning=MEANINGS.get(protocol.name, ""),
        summary=summarise(details),
        without=Counter(", ".join(case.missing) for case in details.files if case.missing),
        primary=_primary(protocol),
        metrics={metric: METRICS.get(metric, metric) for metric in protocol.units},
        means=MEANS,
        distributions=_distributions(details),
        volumes=_by_volume(details),
        shown=[(case, files[case.name], *_draw(files[case.name], details)) for case in choose(details)],
        colours={"reference": REFERENCE, "prediction": PREDICTION},
    )


def choose(details: Details) -> list[Chosen]:
    """Choose the worst, median and best cases by the protocol's Dice, averaged over regions; no case twice.

    Up to three of each, at most a third of the cases; of two cases the worst and the best. Cases without a prediction,
    or with both masks empty, are left out.
    """
    primary = _primary(details.protocol)
    ranked = []
    for files in details.files:
        scores = details.scores[files.name].values()
        volumes = [volume for measured in scores for volume in measured.volumes]
        if files.prediction is not None and any(volumes):
            mean = float(np.mean([measured.values[primary] for measured in scores]))
            ranked.append((mean, sum(volumes), files.name))
    ranked.sort()
    count = len(ranked)
    if count < 3:
        labels = ("Worst", "Best") if count == 2 else ("The only case",)
        return [Chosen(label, name, mean) for label, (mean, _, name) in zip(labels, ranked, strict=False)]
    share = min(SHOWN, count // 3)
    groups = {"Worst": ranked[:share], "Median": ranked[(count - share) // 2 :][:share], "Best": ranked[::-1][:share]}
    return [
        Chosen(label if share == 1 else f"{label}, {place} of {share}", name, mean)
        for label, group in groups.items()
        for place, (mean, _, name) in enumerate(group, 1)
    ]


def _primary(protocol: Protocol) -> str:
    return "lesionwise_dice" if "lesionwise_dice" in protocol.units else "dice"


def _distributions(details: Details) -> list[tuple[str, Markup]]:
    """The name of each metric, and its chart."""
    charts = []
    for metric, unit in details.protocol.units.items():
        values = {
            region: [scores[region].values[metric] for scores in details.scores.values()] for region in details.regions
        }
        label = METRICS.get(metric, metric)
        charts.append((label, scores_chart(label, unit, values)))
    return charts


def _by_volume(details: Details) -> list[dict[str, Any]]:
    """Counts of scored and false lesions by region and volume, in mm3."""
    rows = []
    for region in details.regions:
        lesions = [lesion for scores in details.scores.values() for lesion in scores[region].lesions]
        for low, high in pairwise(EDGES):
            inside = [lesion for lesion in lesions if lesion.is_scored and low <= lesion.volume < high]
            if inside:
                rows.append({"region": region, "low": low, "high": high, **count_lesions(inside)})
    return rows


def _draw(files: CaseFiles, details: Details) -> tuple[Sequence[str], list[tuple[Any, ...]]]:
    """Draw each region of a case in three planes through the largest extent of its reference, or of its prediction.

    Returns faults of the image; and of each region its name, scores, picture, and numbered missed and false lesions.
    """
    predictions, references, affine = scored_masks(files, details)
    scene = scene_of({"reference": references, "prediction": predictions}, affine, files.images[:1])
    levels = grey_levels(next(iter(scene.images.values()), np.zeros(scene.shape, np.float32)))
    rows = []
    for region in details.regions:
        masks = [scene.masks[layer][region] for layer in ("reference", "prediction")]
        centre = centre_of(next((mask for mask in masks if mask.any()), scene.union))
        outlines = dict(zip((REFERENCE, PREDICTION), masks, strict=True))
        slices = zip(PLANES, centre[::-1], strict=True)
        pixels = side_by_side([panel(levels, plane, at, scene.spacing, outlines, EDGE) for plane, at in slices])
        measured = details.scores[files.name][region]
        numbered = enumerate(measured.lesions, 1)
        wrong = [(number, lesion) for number, lesion in numbered if lesion.is_scored and not lesion.is_found]
        rows.append((region, measured, png_uri(png(pixels)), wrong))
    return scene.faults, rows


def _figure(value: float | None, unit: str) -> str:
    """Format a figure by its unit; None becomes a dash."""
    return "–" if value is None else f"{value:.{DIGITS[unit]}f}"
