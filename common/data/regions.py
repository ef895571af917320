"""Label conventions: regions, label values, colours and scoring protocols.

A convention is text: a name in `CONVENTIONS`, or a declaration such as `core=1+3,whole=1+2+3`, optionally with colours,
`core=1+3:d1495b` (MONAI would turn # into ::). To add a named convention, add an entry to `CONVENTIONS`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

from ..errors import ArgumentError


class Region(NamedTuple):
    """The union of some label values, and its colour in pictures (#rrggbb)."""

    labels: frozenset[int]
    colour: str


@dataclass(frozen=True)
class Convention:
    """The meaning of the values in a label map; 0 is background.

    `regions` is in channel order, and overlapping regions are nested. `aliases` maps a label value to its replacement
    for scoring, where two conventions of a protocol differ.
    """

    regions: Mapping[str, Region]
    protocols: tuple[str, ...]
    aliases: Mapping[int, int] = field(default_factory=dict)


GREEN, YELLOW, RED, BLUE, VIOLET, BROWN = "#4dac6d", "#e9c46a", "#d1495b", "#4c86c6", "#9d6bb8", "#b5835a"

CONVENTIONS: dict[str, Convention] = {
    "brats2021": Convention(  # channels in the order of SwinUNETR's outputs
        regions={
            "TC": Region(frozenset({1, 4}), YELLOW),
            "WT": Region(frozenset({1, 2, 4}), GREEN),
            "ET": Region(frozenset({4}), RED),
        },
        protocols=("brats",),
        aliases={4: 3},  # as brats2023 writes enhancing tumour
    ),
    "brats2023": Convention(
        regions={
            "TC": Region(frozenset({1, 3}), YELLOW),
            "WT": Region(frozenset({1, 2, 3}), GREEN),
            "ET": Region(frozenset({3}), RED),
        },
        protocols=("brats",),
    ),
    "brats2024": Convention(  # glioma after treatment: 1 NETC, 2 SNFH, 3 ET, 4 RC (de Verdier et al., 2024)
        regions={
            "TC": Region(frozenset({1, 3}), YELLOW),
            "WT": Region(frozenset({1, 2, 3}), GREEN),
            "ET": Region(frozenset({3}), RED),
            "RC": Region(frozenset({4}), BLUE),  # resection cavity
        },
        protocols=("brats",),
    ),
    "atlas": Convention(regions={"lesion": Region(frozenset({1}), RED)}, protocols=("atlas", "isles")),
}
PALETTE = (RED, GREEN, BLUE, YELLOW, VIOLET, BROWN)  # colours for regions that declare none
EXPECTED = f"expected one of {', '.join(CONVENTIONS)}, or regions and their labels, such as core=1+3,whole=1+2+3"
LIMIT = 32  # regions

_REGION = re.compile(r"([A-Za-z][\w-]{0,39})=(\d{1,3}(?:\+\d{1,3})*)(?::([0-9A-Fa-f]{6}))?")


def _convention(text: str) -> Convention:
    """The convention that a text names or declares; see the module."""
    return CONVENTIONS[text] if text in CONVENTIONS else _declared(text)


@cache
def _declared(text: str) -> Convention:
    regions: dict[str, Region] = {}
    for part in _parts(text):
        found = _REGION.fullmatch(part)
        if found is None:
            raise ArgumentError(f"label_convention={text:.200}: {EXPECTED}")
        name, labels = found[1], frozenset(map(int, found[2].split("+")))
        if name in regions:
            raise ArgumentError(f"label_convention={text:.200}: {name} twice; expected different names")
        if name.lower() == "dice":
            raise ArgumentError(f"label_convention={text:.200}: {name} is a metric; expected another name")
        regions[name] = Region(labels, f"#{found[3].lower()}" if found[3] else PALETTE[len(regions) % len(PALETTE)])
    _check(text, regions)
    return Convention(regions, protocols=("brats", "atlas", "isles"))


def _parts(text: str) -> list[str]:
    """Split a text into declarations of single regions, without spaces."""
    return re.sub(r"\s*([=+:,])\s*", r"\1", text.strip()).split(",")


def _check(text: str, regions: Mapping[str, Region]) -> None:
    """Refuse regions that a label map cannot represent."""
    if len(regions) > LIMIT:
        raise ArgumentError(f"label_convention={text:.200}: {len(regions)} regions; expected at most {LIMIT}")
    for name, region in regions.items():
        if not all(1 <= label <= 255 for label in region.labels):
            raise ArgumentError(f"label_convention={text:.200}: {name}: expected labels from 1 to 255; 0 is background")
        for other, (labels, _) in regions.items():
            if name != other and region.labels == labels:
                raise ArgumentError(f"label_convention={text:.200}: {name} and {other} have the same labels")
            if region.labels & labels and not (region.labels <= labels or labels <= region.labels):
                raise ArgumentError(
                    f"label_convention={text:.200}: {name} and {other} overlap; expected one inside the other, or apart"
                )


def canonical(text: str) -> str:
    """The shortest text of a convention: a name, or the declaration with sorted labels and no spaces.

    Example:
        >>> canonical("core = 3+1, whole = 1+2+3")
        'core=1+3,whole=1+2+3'
    """
    _convention(text)
    if text in CONVENTIONS:
        return text
    parts = map(_REGION.fullmatch, _parts(text))
    found = ((part[1], sorted(set(map(int, part[2].split("+")))), part[3]) for part in parts if part)
    return ",".join(
        f"{name}={'+'.join(map(str, labels))}{f':{colour.lower()}' if colour else ''}" for name, labels, colour in found
    )


def declaration(regions: Mapping[str, Any]) -> str:
    """The text of regions that a datalist or a file declares: labels, or {"labels": ..., "colour": "#rrggbb"}, by name.

    Labels are a whole number or a list of them; names are in channel order.

    Example:
        >>> declaration({"core": [1, 3], "whole": {"labels": [1, 2, 3], "colour": "#4dac6d"}})
        'core=1+3,whole=1+2+3:4dac6d'
    """
    parts = []
    for name, value in regions.items():
        labels, colour = (value.get("labels"), value.get("colour", "")) if isinstance(value, Mapping) else (value, "")
        numbers = labels if isinstance(labels, list | tuple) else [labels]
        parts.append(f"{name}={'+'.join(map(str, numbers))}{str(colour).replace('#', ':')}")
    try:
        return canonical(",".join(parts))
    except ArgumentError as error:
        raise ArgumentError(str(error).replace("label_convention=", "regions=", 1)) from error


def mapping_of(text: str) -> str | dict[str, Any]:
    """A convention as a datalist stores it: its name, or the mapping that `declaration` reads."""
    if text in CONVENTIONS:
        return text
    found: dict[str, Any] = {}
    for part in canonical(text).split(","):
        name, _, rest = part.partition("=")
        labels, mark, colour = rest.partition(":")
        numbers = [int(label) for label in labels.split("+")]
        found[name] = {"labels": numbers, "colour": f"#{colour}"} if mark else numbers
    return found


def regions_of(convention: str) -> dict[str, frozenset[int]]:
    """The regions of a label convention in channel order, each with its label values.

    Raises:
        ArgumentError: the convention is neither known nor a declaration.
    """
    return {name: region.labels for name, region in _convention(convention).regions.items()}


def known_labels(convention: str) -> frozenset[int]:
    """All label values of a convention, including 0 for background."""
    return frozenset({0}).union(*regions_of(convention).values())


def painting_order(convention: str) -> list[tuple[int, int]]:
    """(channel, label value) of each region, largest region first, so that the innermost region labels a voxel.

    The value belongs to no inner region; for a region that consists of inner regions it is the smallest value.
    """
    regions = list(regions_of(convention).values())
    channels = sorted(range(len(regions)), key=lambda channel: -len(regions[channel]))
    found = []
    for channel in channels:
        inner = frozenset[int]().union(*(other for other in regions if other < regions[channel]))
        found.append((channel, min(regions[channel] - inner or regions[channel])))
    return found


def colours(convention: str) -> dict[str, str]:
    """The colour of each region of a convention, in display order."""
    regions = _convention(convention).regions
    return {name: regions[name].colour for name in display_order(regions)}


def display_order(names: Iterable[str]) -> list[str]:
    """Names of regions in display order: known regions, outermost first, then the rest as given."""
    known: list[str] = []
    for convention in CONVENTIONS.values():
        known += sorted(convention.regions, key=lambda name: -len(convention.regions[name].labels))
    return sorted(names, key=lambda name: known.index(name) if name in known else len(known))


def conventions_by_protocol() -> dict[str, tuple[str, ...]]:
    """Scoring protocol -> the named conventions that it scores; first the convention with its label values."""
    found: dict[str, list[str]] = {}
    for name, convention in CONVENTIONS.items():
        for protocol in convention.protocols:
            found.setdefault(protocol, []).append(name)
    return {
        protocol: tuple(sorted(names, key=lambda name: len(CONVENTIONS[name].aliases)))
        for protocol, names in found.items()
    }


def alike(convention: str) -> tuple[str, ...]:
    """The named conventions with the same regions but different label values, and the convention itself."""
    if convention not in CONVENTIONS:
        return (convention,)
    regions = list(regions_of(convention))
    found = [name for name in CONVENTIONS if list(regions_of(name)) == regions]
    return tuple(sorted(found, key=lambda name: len(CONVENTIONS[name].aliases)))


def aliases_of(conventions: Iterable[str]) -> dict[int, int]:
    """Label value -> its replacement where several conventions are read alike."""
    return {value: other for name in conventions for value, other in _convention(name).aliases.items()}
