"""The page of a check (findings.html) and its pictures, for `python -m scripts.datalists check`.

The page is self-contained; it shares its style with `scripts.report`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from common.data.regions import colours, regions_of
from common.data.scan_checks import Problem
from common.inference.pictures import PLANES, centre_of, grey_levels
from common.made import origin_of
from scripts.datalists.examine import CHECKS
from scripts.pages.panels import panel, png, side_by_side
from scripts.pages.slices import read_image
from scripts.pages.templates import png_uri, render

EDGE = 224  # pixels of the longest edge of a volume in a picture
INVALID = "#ff00ff"  # non-finite voxels, and labels of no region


def page(result: Any, subjects: Sequence[Mapping[str, Any]], cohort: Sequence[Problem], made_up: bool = False) -> str:
    """Return the page as HTML; `subjects` have "case", "problems" and "picture"; `made_up` marks a synthetic cohort."""
    return render(
        Path(__file__).with_name("check.html.j2"),
        made=origin_of({}, made_up),
        result=result,
        suspects=[subject for subject in subjects if subject["problems"]],
        sample=[subject for subject in subjects if not subject["problems"]],
        cohort=cohort,
        colours=colours(result.convention) if result.convention else {},
        invalid=INVALID,
        severities=CHECKS,
    )


def draw(
    order: tuple[Mapping[str, Any], str | None], root: str, modalities: Sequence[str], convention: str | None
) -> tuple[str, str, str] | None:
    """Draw three planes of an image of a case, and return (file, modality, data URI); None if no file is readable.

    `order` is a case and the image to draw. If the image is None, unreadable or the label, draw the first readable
    image, or else the label. The planes pass through the centre of the non-finite voxels, else of the label, else of
    the volume.
    """
    case, file = order
    label = read_image(f"{root}/{case['label']}") if "label" in case else None
    for image in dict.fromkeys(filter(None, [file, *case["image"]])):
        volume = None if image == case.get("label") else read_image(f"{root}/{image}")
        if volume is not None:
            modality = modalities[case["image"].index(image)]
            return image, modality, _picture(*volume, label and label[0], convention)
    return label and (case["label"], "label", _picture(*label, label[0], convention))


def _picture(volume: np.ndarray, affine: np.ndarray, label: np.ndarray | None, convention: str | None) -> str:
    spacing, invalid = nibabel.affines.voxel_sizes(affine), ~np.isfinite(volume)
    values = label if label is not None and label.shape == volume.shape else np.zeros_like(volume)
    centre = centre_of(invalid if invalid.any() else values > 0)
    levels, is_valid, outlines = grey_levels(volume), values == 0, dict[str, Any]()
    for name, colour in (colours(convention) if convention else {}).items():
        region = np.isin(values, [*regions_of(convention or "")[name]])
        outlines[colour] = outlines.get(colour, False) | region
        is_valid |= region
    outlines[INVALID] = invalid | ~is_valid
    panels = [panel(levels, plane, at, spacing, outlines, EDGE) for plane, at in zip(PLANES, centre[::-1], strict=True)]
    return png_uri(png(side_by_side(panels)))
