"""Write evaluation.html, the page of an evaluation: a single file with styles and pictures, without scripts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from nibabel.affines import voxel_sizes

from common.errors import InputError, choice
from common.inference.evaluation import PAGE, SLICES, Record, count_lesions, summarise
from common.inference.pictures import PLANES, centre_of, grey_levels, joined
from common.metrics.protocols import DICE, PRESENT, Protocol
from scripts.evaluate.cases import scored_masks
from scripts.evaluate.several import read_record
from scripts.pages.panels import planes, png
from scripts.pages.slices import scene_of, write_slices
from scripts.pages.templates import png_uri, write_page

SHOWN = 3  # largest number of worst cases, of median cases and of best cases
EDGE = 320  # pixels of a slice's longer edge
REFERENCE, PREDICTION = "#ffa200", "#2ba6ff"  # colours of the outlines
MEANS = {  # the two means of Dice, equal if all cases have the region (DIFF-23)
    "dice": DICE._replace(title="Dice, all cases"),
    PRESENT: DICE._replace(title="Dice, cases with the region"),
}


def write_pages(folder: Path, slices: str = "chosen", background: str | None = None) -> Path:
    """Write evaluation.html and pages of slices of the evaluation in a folder; return the path of evaluation.html.

    `slices` selects the cases with a page of slices: none, chosen (those on evaluation.html) or all. `background` is
    the modality of the pictures; None: each case's first.
    """
    record, protocol = read_record(folder)
    cases = record["cases"]
    if background is not None and not any(background in entry.get("modalities", {}) for entry in cases.values()):
        raise InputError(f"--background={background}", "no case has an image of it")
    shown = choose(record, protocol)
    selected = {"none": [], "chosen": [case["name"] for case in shown], "all": list(cases)}
    linked = choice("slices", slices, selected)
    for name in linked:
        write_slices(folder, record, name, background)
    for case in shown:
        case |= _draw(folder, record, case["name"], background)
    write_page(
        folder / PAGE,
        Path(__file__).with_name("evaluation.html.j2"),
        {
            "digits": lambda value, digits: "–" if value is None else f"{value:.{digits}f}",
            "percent": lambda part, whole: f"{100 * part / whole:.0f} %" if whole else "–",
            "lesions": count_lesions,
        },
        made=record["made"],
        record=record,
        links={name: f"{SLICES}/{quote(name, safe='')}.html" for name in linked},
        protocol=protocol,
        summary=summarise(record, protocol),
        means={metric.name: metric for metric in protocol.metrics} | MEANS,
        shown=shown,
        background=background,
        colours={"reference": REFERENCE, "prediction": PREDICTION},
    )
    return folder / PAGE


def choose(record: Record, protocol: Protocol) -> list[dict[str, Any]]:
    """Choose the worst, median and best cases by the protocol's first metric, averaged over regions; no case twice.

    Each group has up to three cases and at most a third of all cases; of fewer than three, all are chosen. Cases
    without a prediction or with only empty masks are left out.
    """
    primary, ranked = protocol.metrics[0], []
    for name, entry in record["cases"].items():
        regions = entry["regions"].values()
        volume = sum(sum(scores["volumes_mm3"]) for scores in regions)
        if entry["prediction"] is not None and volume:
            ranked.append((float(np.mean([scores["values"][primary.name] for scores in regions])), volume, name))
    ranked.sort(reverse=not primary.more_is_better)
    count, share = len(ranked), min(SHOWN, len(ranked) // 3)
    groups = {"Worst": ranked[:share], "Median": ranked[(count - share) // 2 :][:share], "Best": ranked[::-1][:share]}
    if count < 3:
        groups = {"Worst and best": ranked}
    return [
        {"rank": f"{label}, {number} of {len(group)}", "name": name, "score": mean}
        for label, group in groups.items()
        for number, (mean, _, name) in enumerate(group, 1)
    ]


def _draw(folder: Path, record: Record, name: str, background: str | None) -> Mapping[str, Any]:
    """Draw each region of a case in three planes through the reference or, if that is empty, the prediction.

    Return "faults" of the images, and "pictures": data URIs by region.
    """
    entry, pictures = record["cases"][name], {}
    scene = scene_of(folder, entry, scored_masks(folder, entry, record["label_convention"]))
    levels = grey_levels(scene.images.get(background or "", next(iter(scene.images.values()))))
    for region in entry["regions"]:
        reference, prediction = (scene.masks[layer][region] for layer in ("reference", "prediction"))
        centre = centre_of(reference if reference.any() else prediction)
        outlines = {REFERENCE: reference, PREDICTION: prediction}
        panels = planes(levels, centre, voxel_sizes(scene.affine), outlines, EDGE)
        pictures[region] = png_uri(png(joined({region: panels}, PLANES)))
    return {"faults": scene.faults, "pictures": pictures}
