"""Measure from voxels how scans were prepared, and compare that with a checkpoint's training data.

On scans prepared differently, a network predicts plausible but wrong masks, so a checkpoint keeps the ranges of a few
training subjects. Tolerances come from the embedded cohort (docs/reference/data.md, section "Preparation").
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, within
from .scan_checks import Problem, check_headers, read_scan
from .volumes import canonical

T = TypeVar("T")
Ranges = Mapping[str, Sequence[Any]]  # lowest and highest value of each figure

# Largest volume in L of a brain without skull. Of 12 adults of IXI, brains have 1.2 to 1.7 and heads 4.5 to 6.4; of the
# embedded cohort, 1.8 to 2.4 and at least 3.5
BRAIN = 2.8
# Largest share of the outermost voxels in such a brain: of 38 stripped brains at most 0.01, or 0.04 if cropped to their
# box; of 16 scans of heads in slabs of 12 to 14 cm, three of which have less than 2.8 L, at least 0.11
REACHING = 0.07
WITHOUT_SKULL = "brains without skull"
HEAD = 5.0, 1000.0  # mm; least and largest extent of scans whose affine may be in mm
MEASURED = 4  # subjects of a cohort
EXTRACTED = 0.95  # share of non-zero voxels above which a volume is no extracted brain: noise fills it to its borders
# Dice of two modalities' brains. On the scans' own grids: 0.94 if one is 5 mm off, 0.975 if its slices are 6 mm thick.
# On one grid, interpolation has grown the brain of thick slices: 0.92 for slices of 8 mm that are in place
OVERLAP, OVERLAP_ON_ONE_GRID = 0.95, 0.9
SPACING, EXTENT, AIR = 1.1, 1.33, 0.2  # tolerances: factors, and a share of the border
PREPARATION_CHECKS = ("spacing", "skull", "extent", "air", "alignment")  # which `--accept` may name


def measure(image: NDArray[Any], affine: NDArray[Any]) -> dict[str, list[Any]]:
    """Measure a scan [C, H, W, D] in RAS orientation, without missing channels; both ends of each range are its figure.

    "spacing" and "extent" (of voxels above zero) are in mm along right, anterior and superior, "volume" is the largest
    channel's in L above zero, "air" the share of outermost voxels that are not 0, and "overlap" the lowest Dice of the
    first channel's brain with another channel's (1 if a brain is not extracted).
    """
    from nibabel.affines import voxel_sizes

    spacing = voxel_sizes(affine)
    image = image[image.any(axis=(1, 2, 3))]  # without modalities that are missing
    above = image > 0
    anything = np.asarray(above.any(axis=0))
    edges = [_length(np.asarray(anything.any(axis=others))) for others in ((1, 2), (0, 2), (0, 1))]
    figures = {
        "spacing": [round(float(edge), 3) for edge in spacing],
        "extent": [round(float(edge), 1) for edge in np.multiply(edges, spacing)],
        "volume": round(max(litres(channel, spacing) for channel in above), 3),
        "air": round(_share_of_border(np.asarray(image.any(axis=0))), 3),
        "overlap": round(min([1.0, *(brain_overlap(image[0], other) for other in image[1:])]), 3),
    }
    return {name: [value, value] for name, value in figures.items()}


def litres(inside: Any, spacing: Sequence[float]) -> float:
    """Volume of a mask, an array or a tensor, in L; `spacing` has the edges of a voxel in mm."""
    return float(inside.sum()) * float(np.prod(spacing)) / 1e6


def is_brain(inside: NDArray[np.bool_], spacing: Sequence[float]) -> bool:
    """Whether the non-zero voxels of a scan are a brain without skull; `spacing` has the edges of a voxel in mm."""
    figures = {"volume": litres(inside, spacing), "air": _share_of_border(inside)}
    return skull_in({name: [value, value] for name, value in figures.items()}) == WITHOUT_SKULL


def _share_of_border(inside: NDArray[np.bool_]) -> float:
    """The share of the outermost voxels that are true."""
    return float(np.concatenate([np.take(inside, (0, -1), axis).ravel() for axis in range(3)]).mean())


def _length(inside: NDArray[np.bool_]) -> int:
    """Number of elements from the first to the last true value; 0 without any."""
    places = np.flatnonzero(inside)
    return int(np.ptp(places)) + 1 if len(places) else 0


def brain_overlap(first: NDArray[Any], other: NDArray[Any]) -> float:
    """Dice of the non-zero voxels of two volumes on one grid; 1 if one is empty or not an extracted brain."""
    brains = first != 0, other != 0
    sizes = [int(np.count_nonzero(brain)) for brain in brains]
    if max(sizes) > EXTRACTED * first.size or not min(sizes):
        return 1.0
    return 2 * int(np.count_nonzero(brains[0] & brains[1])) / sum(sizes)


def spread(cases: Sequence[T], most: int = MEASURED) -> list[T]:
    """A few cases, evenly spread over the list."""
    return [cases[index] for index in np.linspace(0, len(cases) - 1, min(most, len(cases))).round().astype(int)]


def measure_case(case: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Read a case's scans and measure them; see `measure`."""
    check_headers([case], ["error"])
    scans = []
    for file in filter(None, case["image"]):
        with within(f"subject {case['subject']}"):
            scan, voxels = read_scan(file, dtype=np.float32)
        scans.append(canonical(voxels, scan.affine))
    return measure(np.stack([voxels for voxels, _ in scans]), scans[0][1])


def union(found: Sequence[Ranges]) -> dict[str, list[Any]]:
    """The union of several scans' ranges."""
    return {
        name: [
            np.min([ranges[name][0] for ranges in found], axis=0).tolist(),
            np.max([ranges[name][1] for ranges in found], axis=0).tolist(),
        ]
        for name in found[0]
    }


def usual(found: Sequence[Ranges]) -> dict[str, list[Any]]:
    """The ranges of the middle half of several scans."""
    return {
        name: np.quantile([ranges[name][0] for ranges in found], (0.25, 0.75), axis=0).tolist() for name in found[0]
    }


def describe(found: Ranges) -> str:
    """Describe ranges, such as "voxels of 1 x 1 x 1 mm, brains without skull, background 0"."""
    words = [f"voxels of {_mm(found['spacing'])} mm", skull_in(found) or "brains and whole heads"]
    words.append("background 0" if found["air"][1] < AIR else "background not 0")
    return ", ".join([*words] if found["overlap"][0] >= OVERLAP_ON_ONE_GRID else [*words, "modalities not registered"])


def differences(
    found: Ranges, expected: Ranges | None, spacing: Sequence[float] | None = None, file: str = ""
) -> dict[str, Problem]:
    """The failed checks among `PREPARATION_CHECKS`, for a scan's figures or a cohort's ranges.

    Without `expected`, only the checks that apply to every network run. `spacing` is that of the
    voxels, in mm, after resampling.
    """
    differ: dict[str, tuple[str, str]] = {}  # found and expected, in words
    if found["overlap"][0] < OVERLAP_ON_ONE_GRID:
        overlap = f"modalities' brains overlap by Dice {found['overlap'][0]:.2f}"
        differ["alignment"] = overlap, f"{OVERLAP_ON_ONE_GRID} or more between scans of one head; a mask is not a scan"
    if expected is not None:
        edges = found["spacing"] if spacing is None else [spacing, spacing]
        if _is_outside(edges, expected["spacing"], SPACING):
            differ["spacing"] = f"voxels of {_mm(edges)} mm", f"{_mm(expected['spacing'])} mm"
        if skull_in(found) and skull_in(expected) and skull_in(found) != skull_in(expected):
            differ["skull"] = f"{skull_in(found)} ({_litres(found)})", f"{skull_in(expected)} ({_litres(expected)})"
        elif _is_outside(found["extent"], expected["extent"], EXTENT):
            differ["extent"] = f"extends over {_mm(found['extent'])} mm", f"{_mm(expected['extent'])} mm"
        if found["air"][1] > expected["air"][1] + AIR:
            value = f"{found['air'][1]:.0%} of the volume's border is not 0, where air should be"
            differ["air"] = value, f"{expected['air'][1]:.0%}"
    return {name: Problem(name, file, *difference) for name, difference in differ.items()}


def doubts(found: Mapping[str, Ranges], spacing: Sequence[float] | None = None) -> dict[str, Problem]:
    """Why scans of a training may not belong together, by check: size, voxels, and backgrounds beside brains.

    `found` has the figures of each place; `spacing` is that to which the scans are resampled.
    """
    doubted: dict[str, Problem] = {}
    reference = next(iter(found.values()))
    has_brains = any(ranges["volume"][1] <= BRAIN for ranges in found.values())
    for place, ranges in found.items():
        longest = max(ranges["extent"][1])
        if not HEAD[0] <= longest <= HEAD[1]:
            expected = "about 200 mm, a head's; is its affine in mm?"
            doubted.setdefault("extent", Problem("extent", place, f"extends over {longest:.3g} mm", expected))
        if spacing is None and _is_outside(ranges["spacing"], reference["spacing"], SPACING):
            expected = f"{_mm(reference['spacing'])} mm, as in the first subject; --spacing resamples scans"
            doubted.setdefault("spacing", Problem("spacing", place, f"voxels of {_mm(ranges['spacing'])} mm", expected))
        if has_brains and ranges["air"][1] >= AIR:
            value = f"{ranges['air'][1]:.0%} of the volume's border is not 0"
            doubted.setdefault("air", Problem("air", place, value, "0 around the brain, as in scans without skull"))
    return doubted


def _is_outside(found: Sequence[Any], expected: Sequence[Any], factor: float) -> bool:
    low, high = np.asarray(expected[0]) / factor, np.asarray(expected[1]) * factor
    return bool((np.asarray(found[0]) < low).any() or (np.asarray(found[1]) > high).any())


def skull_in(ranges: Ranges) -> str:
    """With or without skull, in words; "" for a mixture, and for a volume like a brain's that reaches the border."""
    low, high = ranges["volume"]
    if high <= BRAIN:
        return WITHOUT_SKULL if ranges["air"][1] <= REACHING else ""
    return "whole heads" if low > BRAIN else ""


def _litres(ranges: Ranges) -> str:
    low, high = (f"{volume:.2g}" for volume in ranges["volume"])
    return f"{low} L above zero" if low == high else f"{low} to {high} L above zero"


def _mm(edges: Sequence[Any]) -> str:
    low, high = ([f"{edge:.3g}" for edge in side] for side in edges)
    return " x ".join(one if one == other else f"{one}-{other}" for one, other in zip(low, high, strict=True))


def refuse(found: Mapping[str, Problem], accept: Collection[str]) -> None:
    """Raise `InputError` for the problems of `differences`, except the accepted checks."""
    refused = {name: difference for name, difference in found.items() if name not in accept}
    if not refused:
        return
    differing = "; ".join(map(str, refused.values()))
    cures = "--spacing resamples scans, python -m scripts.prepare prepares raw ones, "
    cures += f"--accept='[{','.join(refused)}]' goes on regardless"
    raise InputError(f"preparation differs from the training data: {differing} ({cures})")
