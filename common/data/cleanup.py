"""Postprocessing of segmented regions by connected components, stated as text such as `WT=100mm3+largest,ET=holes`.

`scripts.postprocessing` chooses it on validation cases; checkpoints state it as `cleanup`.
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
SLACK = 1e-4  # relative; affines in single precision
Masks = NDArray[np.bool_]


class Steps(NamedTuple):
    """The steps of a region in their order; components have 26-connected voxels, holes 6-connected ones.

    Attributes:
        smallest: Smallest volume of a component that stays, mm3.
        largest: Whether the largest component alone stays; of equals the first in the array's order.
        holes: Whether holes become part of the region.
    """

    smallest: float = 0
    largest: bool = False
    holes: bool = False


def steps_of(cleanup: str) -> dict[str, Steps]:
    """Steps by region, of text.

    Raises:
        InputError: a region is listed twice, or a step is unknown or repeated.

    Example:
        >>> steps_of("ET=holes, WT=100mm3+largest")["WT"]
        Steps(smallest=100.0, largest=True, holes=False)
    """
    found: dict[str, Steps] = {}
    for part in re.sub(r"\s*([=+,])\s*", r"\1", cleanup.strip()).split(","):
        region, _, text = part.partition("=")
        words = [("smallest" if VOLUME.fullmatch(word) else word, word) for word in text.split("+")]
        names = [name for name, _ in words]
        if region in found or not re.fullmatch(r"[A-Za-z][\w-]{0,39}", region, re.ASCII):
            raise InputError(f"expected {EXPECTED}")
        if len({*names}) < len(names) or not {*names} <= {*Steps._fields}:
            raise InputError(f"{region}: expected {EXPECTED}")
        volume = next((float(word[:-3]) for name, word in words if name == "smallest"), 0.0)
        found[region] = Steps(volume, "largest" in names, "holes" in names)
        if found[region] == Steps():
            raise InputError(f"{region}: expected a volume above 0")
    return found


def text_of(steps: Mapping[str, Steps]) -> str:
    """The text of steps by region, without regions that have none; empty without any.

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
    """Apply steps to regions [R, x, y, z] that are nested or disjoint, as in a label map; so they stay.

    The outermost region comes first. What it loses, the regions inside lose, too; a filled hole is part of the regions
    outside, and voxels of a disjoint region are no hole. A region without labels of its own becomes the union of the
    regions inside.

    Args:
        masks: Regions in channel order.
        convention: Label convention.
        steps: Steps by region.
        voxel: Volume of a voxel, mm3.
    """
    names, labels = zip(*regions_of(convention).items(), strict=True)
    result, order = masks.copy(), [channel for channel, _ in painting_order(convention)]
    within = {channel: [other for other in order if labels[other] < labels[channel]] for channel in order}
    for channel in order:
        step = steps.get(names[channel], Steps())
        if step == Steps() or not result[channel].any():
            continue
        outside = [other for other in order if labels[other] > labels[channel]]
        disjoint = [other for other in order if not labels[other] & labels[channel]]
        mask = result[channel] & _kept(result[channel], step, voxel)
        result[within[channel]] &= mask
        if step.holes:
            mask |= _filled(mask) & ~result[disjoint].any(axis=0)
            result[outside] |= mask
        result[channel] = mask
    for channel in reversed(order):
        inside = within[channel]
        if inside and not labels[channel] - frozenset[int]().union(*(labels[other] for other in inside)):
            result[channel] = result[inside].any(axis=0)
    return result


def _kept(mask: Masks, step: Steps, voxel: float) -> Masks:
    labels = components(mask, 26)
    volumes = np.bincount(labels.ravel()) * voxel
    volumes[0] = 0
    keeps = (volumes > 0) & (volumes >= step.smallest * (1 - SLACK))
    if step.largest:
        keeps &= np.arange(len(volumes)) == volumes.argmax()
    return keeps[labels]


def _filled(mask: Masks) -> Masks:
    """A mask with its holes: voxels that no path through faces leads out of."""
    box = box_of(mask)
    background = components(~np.pad(mask[box], 1), 6)  # the corner is outside
    filled = mask.copy()
    filled[box] = (background != background[0, 0, 0])[1:-1, 1:-1, 1:-1]
    return filled
