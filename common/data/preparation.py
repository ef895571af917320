"""Measure how scans were prepared, from their voxels, and compare with the ranges that a checkpoint keeps.

On scans prepared differently, a network predicts plausible but wrong masks (docs/reference/data.md, "Preparation").
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..components import box_of
from ..errors import InputError
from .volumes import Problem, check_grid, check_image

Ranges = Mapping[str, Sequence[Any]]  # measurement, such as volume -> lowest and highest value

# Largest volume, L, and share of non-zero voxels at the border, of a brain without skull. In 12 adults of IXI, brains
# have 1.2 to 1.7 L and heads 4.5 to 6.4; in the embedded cohort, 1.8 to 2.4 and at least 3.5. The share was up to 0.01
# in 38 brains, 0.04 if cropped to their box; at least 0.11 in 16 head slabs of 12 to 14 cm, three of them below 2.8 L
BRAIN, REACHING = 2.8, 0.07
WITHOUT_SKULL, WITH_SKULL = "brains without skull", "whole heads"
MEASURED = 4  # subjects per cohort
EXTRACTED = 0.95  # share of non-zero voxels above which a volume is not an extracted brain, as noise fills it
# Minimum Dice of two modalities' brains. On the scans' native grids: 0.94 at an offset of 5 mm, 0.975 for slices of
# 6 mm. On a common grid, interpolation enlarges brains with thick slices: 0.92 for aligned slices of 8 mm
OVERLAP, OVERLAP_ON_ONE_GRID = 0.95, 0.9
SPACING, EXTENT, AIR = 1.1, 1.33, 0.2  # tolerances: factors, and a share of the border
PREPARATION_CHECKS = ("spacing", "skull", "extent", "air", "alignment")  # names that `--accept` takes


def measure(image: NDArray[Any], affine: NDArray[Any]) -> dict[str, list[Any]]:
    """Measure how a scan [C, H, W, D] in RAS orientation was prepared; return [value, value] for each measurement.

    "spacing" and "extent" (of the foreground, which is not 0) are in mm; "volume" is the largest channel's foreground
    in L; "air" is the foreground's share of border voxels; "overlap" is the lowest Dice between the brains of the first
    and a further channel. Empty channels, of missing modalities, do not count.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    inside = image != 0
    inside = inside[inside.any(axis=(1, 2, 3))]
    anywhere = np.asarray(inside.any(axis=0))
    edges = [side.stop - side.start for side in box_of(anywhere)]
    figures = {
        "spacing": [round(float(edge), 3) for edge in spacing],
        "extent": [round(float(edge), 1) for edge in np.multiply(edges, spacing)],
        "volume": round(max(litres(channel, spacing) for channel in inside), 3),
        "air": round(float(border(anywhere).mean()), 3),
        "overlap": round(min([1.0, *(brain_overlap(inside[0], other) for other in inside[1:])]), 3),
    }
    return {name: [value, value] for name, value in figures.items()}


def fill_volume(
    volume: NDArray[Any], file: str, scan: Any, voxels: NDArray[Any], grid: tuple[Any, Any], other: str, is_image: bool
) -> None:
    """Fill a float32 volume with voxels on `grid`, that of `other`; an image is checked, `without_background`."""
    check_grid(file, (voxels.shape, scan.affine), grid, other)
    with np.errstate(over="ignore"):  # `check_image` refuses infinite values
        volume[:] = voxels
    if is_image:
        volume[:] = without_background(volume)
        check_image(file, volume)


def without_background(volume: NDArray[Any]) -> NDArray[Any]:
    """Subtract the background from a volume [x, y, z]: the value that fills its border or, without one, the lowest."""
    background = border_value(volume)
    if background is None:  # the air is noise
        background = volume.min()
    return volume - background if background and np.isfinite(background) else volume


def border_value(volume: NDArray[Any]) -> Any:
    """Return the value of more than half of the voxels at a volume's border; None without such a value."""
    values, counts = np.unique(border(volume), return_counts=True)
    return values[counts.argmax()] if 2 * counts.max() > counts.sum() else None


def litres(inside: Any, spacing: Sequence[float]) -> float:
    """Return the volume of a mask (array or tensor) in L; `spacing` has the edges of a voxel in mm."""
    return float(inside.sum()) * float(np.prod(spacing)) / 1e6


def is_brain(inside: NDArray[np.bool_], spacing: Sequence[float]) -> bool:
    """Whether a scan's non-zero voxels, `inside`, are a brain without skull; `spacing` is the voxel size in mm."""
    return litres(inside, spacing) <= BRAIN and float(border(inside).mean()) <= REACHING


def border(volume: NDArray[Any]) -> NDArray[Any]:
    """Return the voxels of a volume's six outer faces as a flat array."""
    return np.concatenate([np.take(volume, (0, -1), axis).ravel() for axis in range(3)])


def brain_overlap(first: NDArray[Any], other: NDArray[Any]) -> float:
    """Return the Dice of two volumes' non-zero voxels on one grid; 1 if either is empty or not an extracted brain."""
    brains = first != 0, other != 0
    sizes = [int(np.count_nonzero(brain)) for brain in brains]
    if max(sizes) > EXTRACTED * first.size or not min(sizes):
        return 1.0
    return 2 * int(np.count_nonzero(brains[0] & brains[1])) / sum(sizes)


def spread(cases: Sequence[Any]) -> list[Any]:
    """Return up to `MEASURED` cases, evenly spread over the list."""
    return [cases[index] for index in np.linspace(0, len(cases) - 1, min(MEASURED, len(cases))).round().astype(int)]


def union(measured: Sequence[Ranges]) -> dict[str, list[Any]]:
    """Return the smallest range of each measurement that contains the ranges of all scans."""
    lows, highs = ({name: [ranges[name][end] for ranges in measured] for name in measured[0]} for end in (0, 1))
    return {name: [np.min(lows[name], axis=0).tolist(), np.max(highs[name], axis=0).tolist()] for name in lows}


def describe(ranges: Ranges) -> str:
    """Describe measured ranges in words, such as "voxels of 1 x 1 x 1 mm, brains without skull, background 0"."""
    words = [f"voxels of {_mm(ranges['spacing'])} mm", skull_in(ranges) or "brains and whole heads"]
    words.append("background 0" if ranges["air"][1] < AIR else "background not 0")
    words += ["modalities not registered"] if ranges["overlap"][0] < OVERLAP_ON_ONE_GRID else []
    return ", ".join(words)


def differences(
    ranges: Ranges, expected: Ranges | None, file: str, spacing: Sequence[float] | None = None
) -> dict[str, Problem]:
    """Compare measured ranges of scans with those of the training data; return the failed `PREPARATION_CHECKS`.

    `expected` of None checks only the alignment. `spacing` is the voxel size after resampling, in mm.
    """
    found: dict[str, tuple[str, str]] = {}  # check -> actual and expected value
    if (overlap := ranges["overlap"][0]) < OVERLAP_ON_ONE_GRID:
        found["alignment"] = f"modalities' brains overlap by Dice {overlap:.2f}", f"{OVERLAP_ON_ONE_GRID} or more"
    if expected is not None:
        edges = ranges["spacing"] if spacing is None else [spacing, spacing]
        kinds, air = (skull_in(ranges), skull_in(expected)), (ranges["air"][1], expected["air"][1])
        if _is_outside(edges, expected["spacing"], SPACING):
            found["spacing"] = f"voxels of {_mm(edges)} mm", f"{_mm(expected['spacing'])} mm"
        if all(kinds) and kinds[0] != kinds[1]:
            found["skull"] = f"{kinds[0]} ({ranges['volume'][1]:.2g} L above zero)", kinds[1]
        elif _is_outside(ranges["extent"], expected["extent"], EXTENT):
            found["extent"] = f"extends over {_mm(ranges['extent'])} mm", f"{_mm(expected['extent'])} mm"
        if air[0] > air[1] + AIR:
            found["air"] = f"{air[0]:.0%} of the volume's border is not 0, where air should be", f"{air[1]:.0%}"
    return {check: Problem(check, file, *values) for check, values in found.items()}


def _is_outside(measured: Sequence[Any], expected: Sequence[Any], factor: float) -> bool:
    low, high = np.asarray(expected[0]) / factor, np.asarray(expected[1]) * factor
    return bool((np.asarray(measured[0]) < low).any() or (np.asarray(measured[1]) > high).any())


def skull_in(ranges: Ranges) -> str:
    """Return `WITH_SKULL` or `WITHOUT_SKULL`, as the measured ranges of scans show, or "" if they are unclear."""
    low, high = ranges["volume"]
    if high <= BRAIN:
        return WITHOUT_SKULL if ranges["air"][1] <= REACHING else ""
    return WITH_SKULL if low > BRAIN else ""


def _mm(edges: Sequence[Any]) -> str:
    lowest, highest = ([f"{edge:.3g}" for edge in side] for side in edges)
    return " x ".join(low if low == high else f"{low}-{high}" for low, high in zip(lowest, highest, strict=True))


def refuse(problems: Mapping[str, Problem], accept: Collection[str]) -> None:
    """Raise one `InputError` for all problems from `differences`, except those of checks in `accept`."""
    if refused := {name: problem for name, problem in problems.items() if name not in accept}:
        differing = "; ".join(map(str, refused.values()))
        cures = "--spacing resamples scans, python -m scripts.prepare prepares raw ones, "
        cures += f"--accept='[{','.join(refused)}]' goes on regardless"
        raise InputError(f"preparation differs from the training data: {differing} ({cures})")
