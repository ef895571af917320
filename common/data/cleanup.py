"""Clean up segmented regions: remove components, by text such as `WT=100mm3,ET=largest`.

`scripts.cleanup` chooses it on validation cases; checkpoints record it as `cleanup`.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..components import components
from ..errors import ArgumentError
from .regions import painting_order, regions_of

EXPECTED = "a smallest volume or `largest` for each region, such as WT=100mm3,ET=largest"
LARGEST = np.inf  # smallest volume with which only the largest component stays
SLACK = 1e-4  # relative tolerance of volumes, as affines are in single precision
_STEP = re.compile(r"([\w-]+)=(?:(\d{1,9}(?:\.\d{1,6})?)mm3|largest)")


def cleanup_of(text: str) -> dict[str, float]:
    """Parse a cleanup into the smallest volume of a component in each region, mm3.

    Example:
        >>> cleanup_of("WT=100mm3, ET=largest")
        {'WT': 100.0, 'ET': inf}
    """
    cleanup: dict[str, float] = {}
    for part in text.replace(" ", "").split(","):
        match = _STEP.fullmatch(part)
        if match is None or match[1] in cleanup:
            raise ArgumentError("cleanup", part, expected=EXPECTED)
        cleanup[match[1]] = float(match[2] or LARGEST)
    return cleanup


def text_of(cleanup: Mapping[str, float]) -> str:
    """Write a cleanup as text: the inverse of `cleanup_of`."""
    steps = {region: "largest" if volume == LARGEST else f"{volume:.15g}mm3" for region, volume in cleanup.items()}
    return ",".join(f"{region}={step}" for region, step in steps.items())


def cleaned(label: NDArray[Any], convention: str, cleanup: Mapping[str, float], voxel: float) -> NDArray[Any]:
    """Remove components, which are 26-connected, from the regions of a label map [x, y, z], the outermost first.

    Removed voxels get the label of the region around theirs. `voxel` is the volume of a voxel in mm3.
    """
    names, result = [*regions_of(convention)], label.copy()
    for channel, _ in painting_order(convention):
        if names[channel] not in cleanup:
            continue
        labels = regions_of(convention)[names[channel]]
        parts = components(np.isin(result, [*labels]), 26)
        volumes = np.bincount(parts.ravel(), minlength=1) * voxel
        volumes[0] = 0
        if cleanup[names[channel]] == LARGEST:  # of equal ones, the first in array order
            keeps = np.arange(len(volumes)) == volumes.argmax()
        else:
            keeps = volumes >= cleanup[names[channel]] * (1 - SLACK)
        keeps[0] = True
        result[~keeps[parts]] = _label_around(labels, regions_of(convention).values())
    return result


def _label_around(labels: frozenset[int], regions: Collection[frozenset[int]]) -> int:
    """Return the label of the innermost region around `labels` that has a label outside its inner regions, else 0."""
    for outer in sorted((region for region in regions if region > labels), key=len):
        if own := outer.difference(*(region for region in regions if region < outer)):
            return min(own)
    return 0
