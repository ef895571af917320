"""Label conventions: the labels and the colour of each region.

A convention is text: a name in `CONVENTIONS`, or a declaration such as `core=1+3,whole=1+2+3`, optionally with colours,
`core=1+3:d1495b` (without #, which MONAI would turn into ::). `common.data.cohorts` defines the named conventions.
"""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from itertools import cycle, product
from typing import Any

from ..errors import ArgumentError
from .cards import BLUE, ORANGE, PURPLE, SKY, VERMILION, YELLOW, Region
from .cohorts import COHORTS

# The regions of each named convention in channel order; overlapping regions are nested, 0 is background
CONVENTIONS = {name: regions for cohort in COHORTS.values() for name, regions in cohort.conventions.items()}
ALIKE = ("brats2023", "brats2021")  # the same regions; readers accept the labels of both
ALIASES = {4: 3}  # label of enhancing tumour in brats2021 -> in brats2023
PALETTE = (VERMILION, SKY, YELLOW, BLUE, PURPLE, ORANGE)  # colours for regions that declare none
EXPECTED = f"one of {', '.join(CONVENTIONS)}, or regions and their labels, such as core=1+3,whole=1+2+3"
LIMIT = 32  # regions

_SIDE = re.compile(r"left|right|(?<![a-z])[lr]h?(?![a-z])", re.IGNORECASE)
_REGION = re.compile(r"([A-Za-z][\w-]{0,39})=(\d{1,3}(?:\+\d{1,3})*)(?::([0-9A-Fa-f]{6}))?")


@cache
def _regions(text: str) -> Mapping[str, Region]:
    """Return the regions that a text names or declares, in channel order; the colour is "" if not declared."""
    if text in CONVENTIONS:
        return CONVENTIONS[text]
    regions: dict[str, Region] = {}
    for part in re.sub(r"\s*([=+:,])\s*", r"\1", text.strip()).split(","):
        match = _REGION.fullmatch(part)
        if match is None:
            raise ArgumentError("label_convention", text, expected=EXPECTED)
        name, labels = match[1], frozenset(map(int, match[2].split("+")))
        if name in regions:
            raise ArgumentError("label_convention", text, f"{name} is declared twice", "a name for each region")
        if name.lower() == "dice":
            raise ArgumentError("label_convention", text, f"{name} is reserved for the metric", "a different name")
        regions[name] = Region(labels, f"#{match[3].lower()}" if match[3] else "")
    if len(regions) > LIMIT:
        raise ArgumentError("label_convention", text, f"{len(regions)} regions", f"at most {LIMIT}")
    for (name, (first, _)), (other, (second, _)) in product(regions.items(), repeat=2):
        if not all(1 <= label <= 255 for label in first):
            raise ArgumentError("label_convention", text, f"{name}: expected labels from 1 to 255; 0 is background")
        if name != other and (first == second or (first & second and not (first < second or second < first))):
            expected = "expected different regions, nested or disjoint"
            raise ArgumentError("label_convention", text, f"{name} and {other} overlap; {expected}")
    return regions


def canonical(text: str) -> str:
    """Return the shortest text of a label convention: its name, or regions with sorted labels and no spaces.

    Example:
        >>> canonical("core = 3+1, whole = 1+2+3")
        'core=1+3,whole=1+2+3'
    """
    if text in CONVENTIONS:
        return text
    return ",".join(
        f"{name}={'+'.join(map(str, sorted(labels)))}{colour.replace('#', ':')}"
        for name, (labels, colour) in _regions(text).items()
    )


def declaration(regions: Mapping[str, Any]) -> str:
    """Convert a mapping from region names to labels, as in a datalist's `regions`, to the text of a label convention.

    Names are in channel order; labels are a whole number, a list of them, or {"labels": ..., "colour": "#rrggbb"}.

    Example:
        >>> declaration({"core": [1, 3], "whole": {"labels": [1, 2, 3], "colour": "#56b4e9"}})
        'core=1+3,whole=1+2+3:56b4e9'
    """
    parts = []
    for name, value in regions.items():
        labels, colour = (value.get("labels"), value.get("colour", "")) if isinstance(value, Mapping) else (value, "")
        numbers = labels if isinstance(labels, list | tuple) else [labels]
        parts.append(f"{name}={'+'.join(map(str, numbers))}{str(colour).replace('#', ':')}")
    try:
        return canonical(",".join(parts))
    except ArgumentError as error:
        raise error.named("regions") from error


def mapping_of(text: str) -> str | dict[str, Any]:
    """Convert a label convention to its form in a datalist: its name, or a mapping that `declaration` reads."""
    if text in CONVENTIONS:
        return text
    return {
        name: {"labels": sorted(labels), "colour": colour} if colour else sorted(labels)
        for name, (labels, colour) in _regions(text).items()
    }


def regions_of(convention: str) -> dict[str, frozenset[int]]:
    """Return the label values of each region of a label convention, in channel order.

    Raises:
        ArgumentError: the convention is neither in `CONVENTIONS` nor a valid declaration.
    """
    return {name: region.labels for name, region in _regions(convention).items()}


def symmetric_axes(convention: str) -> list[int]:
    """Return the axes along which a labelled RAS volume may be mirrored: not axis 0 if regions are left or right.

    That is so if two names differ only in left and right, l and r, or lh and rh.

    Example:
        >>> symmetric_axes("brats2021"), symmetric_axes("hippocampus_left=1,hippocampus_right=2")
        ([0, 1, 2], [1, 2])
    """
    names = regions_of(convention)
    return [1, 2] if len({_SIDE.sub("", name) for name in names}) < len(names) else [0, 1, 2]


def known_labels(convention: str) -> frozenset[int]:
    """Return all label values of a label convention, including 0 for background."""
    return frozenset({0}).union(*regions_of(convention).values())


def painting_order(convention: str) -> list[tuple[int, int]]:
    """Return (channel, label value) of each region, outermost first, so that inner regions are painted over outer ones.

    The value is the region's smallest label that no inner region has or, if there is none, its smallest label.
    """
    regions = list(regions_of(convention).values())
    channels = sorted(range(len(regions)), key=lambda channel: -len(regions[channel]))
    order = []
    for channel in channels:
        inner = frozenset[int]().union(*(other for other in regions if other < regions[channel]))
        order.append((channel, min(regions[channel] - inner or regions[channel])))
    return order


def colours(convention: str) -> dict[str, str]:
    """Return the colour of each region in display order; regions without a colour take one from `PALETTE`."""
    regions = _regions(convention)
    palette = dict(zip(regions, cycle(PALETTE), strict=False))
    return {name: regions[name].colour or palette[name] for name in display_order(regions)}


def label_names(convention: str) -> dict[int, tuple[str, str]]:
    """Map each label value except 0 to the name and colour of the innermost region with that value.

    Example:
        >>> label_names("brats2021")[2]
        ('WT outside TC', '#56b4e9')
    """
    regions, shades, names = regions_of(convention), colours(convention), {}
    for label in sorted(known_labels(convention) - {0}):
        name = min((name for name in regions if label in regions[name]), key=lambda name: len(regions[name]))
        inside = [other for other in regions.values() if other < regions[name]]
        largest = [
            other for other in regions if regions[other] in inside and not any(regions[other] < i for i in inside)
        ]
        names[label] = (f"{name} outside {' and '.join(largest)}" if largest else name, shades[name])
    return names


def display_order(names: Iterable[str]) -> list[str]:
    """Sort region names for display: names in `CONVENTIONS`, outermost first, then all others in their given order."""
    order: list[str] = []
    for regions in CONVENTIONS.values():
        order += sorted(regions, key=lambda name: -len(regions[name].labels))
    return sorted(names, key=lambda name: order.index(name) if name in order else len(order))


def alike(convention: str) -> tuple[str, ...]:
    """Return the label conventions that have the same regions as `convention`, itself included."""
    return ALIKE if convention in ALIKE else (convention,)


def aliases_of(conventions: Iterable[str]) -> dict[int, int]:
    """Map labels to labels of equal meaning, such as {4: 3} if "brats2021" is among the conventions; may be empty."""
    return ALIASES if "brats2021" in conventions else {}
