"""Postprocess segmented regions: remove components and fill holes, by steps such as `WT=100mm3+largest,ET=holes`.

`scripts.postprocessing` selects the steps on validation cases; checkpoints record them as `cleanup`.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..components import box_of, components
from ..errors import InputError
from .regions import painting_order, regions_of

EXPECTED = "steps by region, such as WT=100mm3+largest,ET=holes"
VOLUME = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)mm3")
SLACK = 1e-4  # relative tolerance of volumes, as affines are in single precision
Masks = NDArray[np.bool_]


class Steps(NamedTuple):
    """Postprocessing steps of a region, applied in this order; components are 26-connected, holes 6-connected.

    Attributes:
        smallest: Minimum volume of a component to keep, mm3.
        largest: Whether to keep only the largest component (if several are equally large, the first in array order).
        holes: Whether to fill holes.
    """

    smallest: float = 0
    largest: bool = False
    holes: bool = False


def steps_of(cleanup: str) -> dict[str, Steps]:
    """Parse postprocessing steps, such as `ET=holes,WT=100mm3+largest`, into the steps of each region.

    Raises:
        InputError: a region's name is invalid or repeated, a step is unknown or repeated, or a volume is 0.

    Example:
        >>> steps_of("ET=holes, WT=100mm3+largest")["WT"]
        Steps(smallest=100.0, largest=True, holes=False)
    """
    steps: dict[str, Steps] = {}
    for part in re.sub(r"\s*([=+,])\s*", r"\1", cleanup.strip()).split(","):
        region, _, text = part.partition("=")
        words = [("smallest" if VOLUME.fullmatch(word) else word, word) for word in text.split("+")]
        names = [name for name, _ in words]
        if region in steps or not re.fullmatch(r"[A-Za-z][\w-]{0,39}", region, re.ASCII):
            raise InputError(f"expected {EXPECTED}")
        if len({*names}) < len(names) or not {*names} <= {*Steps._fields}:
            raise InputError(f"{region}: expected {EXPECTED}")
        volume = next((float(word[:-3]) for name, word in words if name == "smallest"), 0.0)
        steps[region] = Steps(volume, "largest" in names, "holes" in names)
        if steps[region] == Steps():
            raise InputError(f"{region}: expected a volume above 0")
    return steps


def text_of(steps: Mapping[str, Steps]) -> str:
    """Write postprocessing steps as text, such as `WT=100mm3+largest`: the inverse of `steps_of`.

    Example:
        >>> text_of({"WT": Steps(smallest=100, largest=True), "TC": Steps()})
        'WT=100mm3+largest'
    """
    words = {
        region: [f"{step.smallest:.15g}mm3"] * (step.smallest > 0) + ["largest"] * step.largest + ["holes"] * step.holes
        for region, step in steps.items()
    }
    return ",".join(f"{region}={'+'.join(listed)}" for region, listed in words.items() if listed)


def cleaned(masks: Masks, convention: str, steps: Mapping[str, Steps], voxel: float) -> Masks:
    """Postprocess the masks [R, x, y, z] of regions; nested regions stay nested, disjoint regions disjoint.

    Steps run from the outermost region inwards. Voxels removed from a region are also removed from the regions inside
    it. Voxels filled in a region are also added to the regions around it; voxels of a disjoint region are not filled.
    If all labels of a region belong to its inner regions, the region becomes the union of the inner regions.

    Args:
        masks: Masks of the regions in channel order, nested or disjoint as in a label map.
        convention: Label convention.
        steps: Steps by the region's name; regions may have none.
        voxel: Volume of a voxel, mm3.
    """
    names, labels = zip(*regions_of(convention).items(), strict=True)
    result, order = masks.copy(), [channel for channel, _ in painting_order(convention)]
    inner = {channel: [other for other in order if labels[other] < labels[channel]] for channel in order}
    for channel in order:
        step = steps.get(names[channel], Steps())
        if step == Steps() or not result[channel].any():
            continue
        outer = [other for other in order if labels[other] > labels[channel]]
        disjoint = [other for other in order if not labels[other] & labels[channel]]
        mask = result[channel] & _select_components(result[channel], step, voxel)
        result[inner[channel]] &= mask
        if step.holes:
            mask |= _fill_holes(mask) & ~result[disjoint].any(axis=0)
            result[outer] |= mask
        result[channel] = mask
    for channel in reversed(order):
        inside = inner[channel]
        if inside and not labels[channel] - frozenset[int]().union(*(labels[other] for other in inside)):
            result[channel] = result[inside].any(axis=0)
    return result


def _select_components(mask: Masks, step: Steps, voxel: float) -> Masks:
    labels = components(mask, 26)
    volumes = np.bincount(labels.ravel()) * voxel
    volumes[0] = 0
    keeps = (volumes > 0) & (volumes >= step.smallest * (1 - SLACK))
    if step.largest:
        keeps &= np.arange(len(volumes)) == volumes.argmax()
    return keeps[labels]


def _fill_holes(mask: Masks) -> Masks:
    """Fill the background voxels that no 6-connected path links to the outside."""
    box = box_of(mask)
    background = components(~np.pad(mask[box], 1), 6)  # the corner is outside
    filled = mask.copy()
    filled[box] = (background != background[0, 0, 0])[1:-1, 1:-1, 1:-1]
    return filled
