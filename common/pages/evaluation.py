"""The page of an evaluation, evaluation.html: one file with its style, script and pictures."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from ..errors import choice
from ..files import atomic_write, check_writable_folder
from ..inference.publishing import PAGE
from ..inference.reading import read_details
from ..inference.results import Details, summarise
from ..metrics.protocols import PRESENT, Protocol, Scores
from . import evaluation_charts
from .evaluation_pictures import draw
from .slices import link_of, write_case
from .templates import hash_of, render

SCRIPT = "evaluation.js"
SHOWN = 3  # number of worst, median and best cases, each
METRICS = {
    "dice": "Dice",
    "hd95": "HD95",
    "lesion_count_difference": "Difference of lesion counts",
    "lesion_f1": "Lesion F1",
    "lesionwise_dice": "Lesion-wise Dice",
    "lesionwise_hd95": "Lesion-wise HD95",
    "nsd": "Normalised surface Dice",
    "volume_difference": "Volume difference",
}
MEANS = {"dice": "Dice, all cases", PRESENT: "Dice, cases with the region"}  # two means of one metric
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
SETTINGS = {
    "challenge": "challenge {}",
    "connectivity": "{} neighbours connect voxels",
    "dilations": "reference dilated {} times",
    "penalty_mm": "HD95 penalty {:g} mm",
    "smallest_mm3": "lesions up to {:g} mm³ not scored",
    "tolerance_mm": "surface tolerance {:g} mm",
}
DIGITS = {"1": 3, "mm": 1, "ml": 2, "lesions": 2, "voxels": 0}  # by unit
COUNTED = ("lesions", "voxels")  # units in which a single case has whole numbers


class Chosen(NamedTuple):
    """A case to show, its score, and the reason, such as "Worst, 2 of 3"."""

    rank: str
    name: str
    score: float


def write_page(folder: str | Path, slices: str = "chosen") -> Path:
    """Draw the pages of an evaluation from the files in its folder; see `write_pages`."""
    return write_pages(folder, read_details(folder), slices)


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
            write_case(folder, files, details.scores[files.name], details.convention)
    with atomic_write(page) as file:
        file.write_text(page_of(details, names), encoding="utf-8")
    return page


def page_of(details: Details, linked: Collection[str] = ()) -> str:
    """Draw the page as HTML, with links to the pages of slices of `linked` cases; the shown cases' files are read."""
    cases, protocol = details.scores, details.protocol
    summary, missing, chosen = summarise(details), details.missing, choose(details)
    files = {case.name: case for case in details.files}
    detections, agreements = _by_region(details, summary)
    script = (Path(__file__).parent / SCRIPT).read_text(encoding="utf-8")
    return render(
        Path(__file__).with_name("evaluation.html.j2"),
        {"figure": _figure, "signed": evaluation_charts.signed, "voxel": _voxel},
        name=details.name,
        links={name: link_of(name) for name in linked},
        protocol=NAMES.get(protocol.name, protocol.name),
        meaning=MEANINGS.get(protocol.name, ""),
        settings=[SETTINGS.get(key, f"{key} {{}}").format(value) for key, value in protocol.settings.items()],
        summary=summary,
        missing=missing,
        without=Counter(", ".join(case.missing) for case in details.files if case.missing),
        primary=_primary(protocol),
        metrics={metric: METRICS.get(metric, metric) for metric in protocol.units},
        means=METRICS | MEANS,
        units=protocol.units,
        distributions=_distributions(details),
        detections=detections if "connectivity" in protocol.settings else [],
        smallest=protocol.settings.get("smallest_mm3"),
        agreements=agreements,
        shown=[
            (
                case,
                files[case.name].missing,
                cases[case.name],
                draw(files[case.name], cases[case.name], protocol, details.convention),
            )
            for case in chosen
        ],
        rows=_rows(details),
        script=Markup(script),
        script_hashes=[hash_of(script.encode())],
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


def _voxel(centre: Sequence[int]) -> str:
    """The part of a link that opens a page of slices at a voxel."""
    return f"#{','.join(map(str, centre))}"


def _primary(protocol: Protocol) -> str:
    return "lesionwise_dice" if "lesionwise_dice" in protocol.units else "dice"


def _distributions(details: Details) -> list[tuple[str, Markup]]:
    """The name of each metric, and its chart."""
    charts = []
    for metric, unit in details.protocol.units.items():
        values = {
            region: [scores[region].values[metric] for scores in details.scores.values()] for region in details.regions
        }
        penalty = details.protocol.settings.get("penalty_mm") if unit == "mm" else None
        label = METRICS.get(metric, metric)
        charts.append((label, evaluation_charts.scores_chart(label, unit, values, penalty)))
    return charts


def _by_region(details: Details, summary: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """By region: found lesions (bins of volume, chart, counts), and agreement of volumes (chart, figures)."""
    detections, agreements = [], []
    for region in details.regions:
        measured = [scores[region] for scores in details.scores.values()]
        bins = evaluation_charts.detection([lesion for scores in measured for lesion in scores.lesions])
        chart = evaluation_charts.detection_chart(region, bins) if bins else None
        detections.append({"region": region, "bins": bins, "chart": chart, **summary["lesions"][region]})
        volumes = list(map(_millilitres, measured))
        chart = evaluation_charts.agreement_chart(region, volumes)
        agreements.append({"region": region, "chart": chart, "figures": evaluation_charts.agreement(volumes)})
    return detections, agreements


def _millilitres(scores: Scores) -> tuple[float, float]:
    prediction, reference = scores.volumes
    return prediction / 1000, reference / 1000


def _rows(details: Details) -> list[dict[str, Any]]:
    """The rows of the table of all cases, one for each case and region."""
    units = details.protocol.units
    rows = []
    for case in details.files:
        for region in details.regions:
            measured = details.scores[case.name][region]
            counted = [lesion for lesion in measured.lesions if lesion.is_reference and lesion.is_scored]
            prediction, reference = _millilitres(measured)
            rows.append(
                {
                    "case": case.name,
                    "part": case.part,
                    "without": ", ".join(case.missing),
                    "region": region,
                    "figures": [_figure(measured.values[metric], units[metric], single=True) for metric in units],
                    "missed": sum(not lesion.is_found for lesion in counted),
                    "scored": len(counted),
                    "false": sum(not lesion.is_reference for lesion in measured.lesions),
                    "prediction": f"{prediction:.2f}",
                    "reference": f"{reference:.2f}",
                }
            )
    return rows


def _figure(value: float | None, unit: str, single: bool = False) -> str:
    """Format a figure by its unit, `single` if it belongs to one case; None becomes a dash."""
    if value is None:
        return "–"
    return f"{value:.{0 if single and unit in COUNTED else DIGITS[unit]}f}"
