"""Label conventions: regions, label values, colours and codes; and cleanup of segmented regions.

A convention is text: a name in `CONVENTIONS`, or a declaration such as `core=1+3,whole=1+2+3`, optionally with colours
and codes, `core=1+3:d1495b:6574001 SCT Necrosis` (without #, which MONAI would turn into ::). regions.json has the
named ones, in the form of a datalist's `regions`.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from itertools import combinations, cycle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..components import components
from ..errors import ArgumentError
from ..files import read_json


class Region(NamedTuple):
    """A region of a label convention."""

    labels: frozenset[int]
    colour: str = ""  # in pictures, #rrggbb
    code: str = ""  # value, scheme and meaning of its part outside inner regions, such as `79654002 SCT Edema`
    part: str = ""  # name of this part in DICOM, if not the region's


def _regions(stated: Mapping[str, Any]) -> dict[str, Region]:
    """Return regions from their values in JSON: a whole number, a list, or a mapping with the names in `Region`."""
    regions = {}
    for name, value in stated.items():
        card = value if isinstance(value, Mapping) else {"labels": value}
        labels = card["labels"] if isinstance(card["labels"], list) else [card["labels"]]
        regions[name] = Region(**{**card, "labels": frozenset(labels)})
    return regions


# Regions in channel order; overlapping regions are nested, 0 is background. Labels of brats2024, after treatment:
# 1 NETC, 2 SNFH, 3 ET, 4 RC, the resection cavity (de Verdier et al., 2024); of brats2024peds: 1 ET, 2 NET, 3 CC, the
# cystic component, 4 ED (Fathi Kazerooni et al., 2024)
CONVENTIONS: Mapping[str, Mapping[str, Region]] = {
    name: _regions(stated) for name, stated in read_json(Path(__file__).with_name("regions.json")).items()
}
EXPECTED = f"one of {', '.join(CONVENTIONS)}, or regions and their labels, such as core=1+3,whole=1+2+3"
# Okabe and Ito, Color Universal Design, 2008: distinct with every kind of colour vision
PALETTE = ("#d55e00", "#56b4e9", "#f0e442", "#0072b2", "#cc79a7", "#e69f00")  # for regions that declare no colour
LARGEST = np.inf  # smallest volume with which only the largest component stays
SLACK = 1e-4  # relative tolerance of volumes, as affines are in single precision

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")  # of a name such as ctx-lh, HippL or LHip
_SIDE = re.compile(r".*(?<!c)left.*|.*(?<!b)right.*|[lr][ht]?", re.IGNORECASE)
_CODE = r"[\w.-]{1,32} \w{1,16} [A-Za-z][\w .'()-]{0,63}"
_REGION = re.compile(
    rf"([A-Za-z][\w-]{{0,39}})=(\d{{1,3}}(?:\+\d{{1,3}})*)(?::([0-9A-Fa-f]{{6}}))?(?::({_CODE}))?", re.ASCII
)


@cache
def cards_of(convention: str) -> Mapping[str, Region]:
    """Return the regions of a label convention in channel order; raise `ArgumentError` if it is invalid."""
    if convention in CONVENTIONS:
        return CONVENTIONS[convention]
    regions: dict[str, Region] = {}
    for part in re.sub(r"\s*([=+:,])\s*", r"\1", convention.strip()).split(","):
        match = _REGION.fullmatch(part)
        if match is None or match[1] in regions or match[1].lower() == "dice":  # the name of the mean in tables
            raise ArgumentError("label_convention", convention, f"{part}: invalid, repeated or reserved", EXPECTED)
        labels = frozenset(map(int, match[2].split("+")))
        if not 1 <= min(labels) <= max(labels) <= 255:
            raise ArgumentError("label_convention", convention, f"{match[1]}: expected labels from 1 to 255")
        regions[match[1]] = Region(labels, f"#{match[3].lower()}" if match[3] else "", match[4] or "")
    for (name, first), (other, second) in combinations(regions.items(), 2):
        shared = first.labels & second.labels
        if first.labels == second.labels or shared not in (frozenset(), first.labels, second.labels):
            expected = "different regions, nested or disjoint"
            raise ArgumentError("label_convention", convention, f"{name} and {other} overlap", expected)
    return regions


def declaration(convention: str | Mapping[str, Any]) -> str:
    """Return the shortest text of a label convention: its name, or regions with sorted labels and no spaces.

    `convention` is text or, as in a datalist's `regions`, a mapping.
    """
    if isinstance(convention, str) and convention in CONVENTIONS:
        return convention
    parts = []
    for name, region in (cards_of(convention) if isinstance(convention, str) else _regions(convention)).items():
        labels = "+".join(map(str, sorted(region.labels)))
        parts.append(":".join(filter(None, (f"{name}={labels}", region.colour.removeprefix("#").lower(), region.code))))
    text = ",".join(parts)
    cards_of(text)  # checks a mapping
    return text


def regions_of(convention: str) -> dict[str, frozenset[int]]:
    """Return the label values of each region of a label convention, in channel order; see `cards_of`."""
    return {name: region.labels for name, region in cards_of(convention).items()}


def known_labels(convention: str) -> frozenset[int]:
    """Return all label values of a label convention, including 0 for background."""
    return frozenset({0}).union(*regions_of(convention).values())


def symmetric_axes(convention: str) -> list[int]:
    """Return the axes along which labelled heads in RAS orientation may be mirrored: 0, or none `with_sides`."""
    return [] if with_sides(regions_of(convention)) else [0]


def with_sides(names: Iterable[str]) -> list[str]:
    """Return the names that tell left from right, such as Left-Thalamus, HippR, ctx-lh, and Lput beside Rput.

    They contain one of the two, or a word l, r, lh, rh, lt or rt; or another of the names differs only in that l and r
    are exchanged at the beginning or end.
    """
    stems = {name: re.sub("^[lr]|[lr]$", "*", name.lower()) for name in names}
    shared = Counter(stems.values())
    return [name for name in stems if any(map(_SIDE.fullmatch, _WORD.findall(name))) or shared[stems[name]] > 1]


def painting_order(convention: str) -> list[tuple[int, int]]:
    """Return (channel, label value) of each region, outermost first, so that inner regions are painted over outer ones.

    The value is the region's smallest label that no inner region has or, if there is none, its smallest label.
    """
    regions = list(regions_of(convention).values())
    order = sorted(range(len(regions)), key=lambda channel: -len(regions[channel]))
    return [(channel, min(_own_labels(regions[channel], regions) or regions[channel])) for channel in order]


def _own_labels(region: frozenset[int], regions: Collection[frozenset[int]]) -> frozenset[int]:
    """Return the labels of a region that no inner region has."""
    return region.difference(*(inner for inner in regions if inner < region))


def colours(convention: str) -> dict[str, str]:
    """Return the colour of each region in display order; regions without a colour take one from `PALETTE`."""
    regions = cards_of(convention)
    palette = dict(zip(regions, cycle(PALETTE), strict=False))
    return {name: regions[name].colour or palette[name] for name in display_order(regions)}


def display_order(names: Iterable[str]) -> list[str]:
    """Sort region names for display: those of tumours outermost first, then all others in their given order."""
    outermost = {"WT": 0, "TC": 1, "ET": 2}
    return sorted(names, key=lambda name: outermost.get(name, 3))


def cleaned(label: NDArray[Any], convention: str, cleanup: Mapping[str, float], voxel: float) -> NDArray[Any]:
    """Remove components, which are 26-connected, from the regions of a label map [x, y, z], the outermost first.

    Removed voxels get the label of the innermost region around theirs that has its own, else 0. `voxel` is in mm3.
    """
    result, regions = label.copy(), regions_of(convention)
    for name, values in sorted(regions.items(), key=lambda region: -len(region[1])):
        if name not in cleanup:
            continue
        parts = components(np.isin(result, [*values]), 26)
        volumes = np.bincount(parts.ravel(), minlength=1) * voxel
        volumes[0] = 0
        keeps = volumes >= cleanup[name] * (1 - SLACK)
        if cleanup[name] == LARGEST:  # of equal ones, the first in array order
            keeps[volumes.argmax()] = True
        keeps[0] = True
        outer = sorted((region for region in regions.values() if region > values), key=len)
        labels = (_own_labels(region, regions.values()) for region in outer)
        result[~keeps[parts]] = next((min(around) for around in labels if around), 0)
    return result
