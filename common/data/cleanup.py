"""Clean up segmented regions: remove components and fill holes, by text such as `WT=100mm3+largest,ET=holes`.

`scripts.cleanup` chooses it on validation cases; checkpoints record it as `cleanup`.
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
STEP = re.compile(r"\d{1,9}(?:\.\d{1,6})?mm3|largest|holes")
SLACK = 1e-4  # relative tolerance of volumes, as affines are in single precision
Masks = NDArray[np.bool_]


class Cleanup(NamedTuple):
    """Cleanup of a region, in this order; components are 26-connected, holes 6-connected."""

    smallest: float = 0  # volume of a component to keep, mm3
    largest: bool = False  # keep only the largest component; of equal ones, the first in array order
    holes: bool = False  # fill holes


def cleanup_of(text: str) -> dict[str, Cleanup]:
    """Parse a cleanup, such as `ET=holes,WT=100mm3+largest`, into that of each region.

    Example:
        >>> cleanup_of("ET=holes, WT=100mm3+largest")["WT"]
        Cleanup(smallest=100.0, largest=True, holes=False)
    """
    regions: dict[str, Cleanup] = {}
    for part in text.replace(" ", "").split(","):
        region, _, steps = part.partition("=")
        words = steps.split("+")
        repeats = len({re.sub(r"[\d.]+", "", word) for word in words}) < len(words)  # such as 10mm3+30mm3
        if not region or region in regions or repeats or not all(map(STEP.fullmatch, words)):
            raise InputError(f"{part}: expected {EXPECTED}")
        volume = re.search(r"[\d.]+(?=mm3)", steps)
        regions[region] = Cleanup(float(volume[0]) if volume else 0, "largest" in steps, "holes" in steps)
    return regions


def text_of(regions: Mapping[str, Cleanup]) -> str:
    """Write a cleanup as text, such as `WT=100mm3+largest`: the inverse of `cleanup_of`."""
    parts = []
    for region, cleanup in regions.items():
        words = [f"{cleanup.smallest:.15g}mm3"] if cleanup.smallest else []
        words += [name for name in ("largest", "holes") if getattr(cleanup, name)]
        if words:
            parts.append(f"{region}={'+'.join(words)}")
    return ",".join(parts)


def cleaned(masks: Masks, convention: str, regions: Mapping[str, Cleanup], voxel: float) -> Masks:
    """Clean up the masks [R, x, y, z] of regions, in channel order; nested regions stay nested, disjoint ones disjoint.

    It runs from the outermost region inwards. Voxels removed from a region are also removed from the regions inside it.
    Voxels filled in a region are also added to the regions around it; voxels of a disjoint region are not filled.
    If all labels of a region belong to its inner regions, the region becomes the union of the inner regions.
    `voxel` is the volume of a voxel in mm3.
    """
    names, labels = zip(*regions_of(convention).items(), strict=True)
    result, order = masks.copy(), [channel for channel, _ in painting_order(convention)]
    inner = {channel: [other for other in order if labels[other] < labels[channel]] for channel in order}
    for channel in order:
        step = regions.get(names[channel], Cleanup())
        if step == Cleanup() or not result[channel].any():
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


def _select_components(mask: Masks, step: Cleanup, voxel: float) -> Masks:
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
