"""Label conventions: the one table of regions, label values, colours and scoring protocols.

Everything else reads this table. To add a convention, add an entry to `CONVENTIONS`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from common.errors import InputError

__all__ = [
    "CONVENTIONS",
    "Convention",
    "Region",
    "aliases_of",
    "colours",
    "conventions_by_protocol",
    "display_order",
    "known_labels",
    "regions_of",
]


class Region(NamedTuple):
    """The union of some label values, and its colour in pictures (#rrggbb)."""

    labels: frozenset[int]
    colour: str


@dataclass(frozen=True)
class Convention:
    """The meaning of the values in a label map; 0 is background.

    Attributes:
        regions: by name, in channel order. Of two regions that share voxels, one contains the other.
        protocols: names of the scoring protocols that measure these regions.
        aliases: label value -> the value that replaces it for scoring, where two conventions of one protocol differ.
    """

    regions: Mapping[str, Region]
    protocols: tuple[str, ...]
    aliases: Mapping[int, int] = field(default_factory=dict)


GREEN, YELLOW, RED = "#4dac6d", "#e9c46a", "#d1495b"

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
    "atlas": Convention(regions={"lesion": Region(frozenset({1}), RED)}, protocols=("atlas", "isles")),
}


def regions_of(convention: str) -> dict[str, frozenset[int]]:
    """The regions of a label convention in channel order, each with its label values.

    Raises:
        InputError: the convention is unknown.
    """
    if convention not in CONVENTIONS:
        raise InputError(f"label convention {convention}: expected one of {', '.join(CONVENTIONS)}")
    return {name: region.labels for name, region in CONVENTIONS[convention].regions.items()}


def known_labels(convention: str) -> frozenset[int]:
    """All label values of a convention, including 0 for background.

    Raises:
        InputError: the convention is unknown.
    """
    return frozenset({0}).union(*regions_of(convention).values())


def colours() -> dict[str, str]:
    """The colour of every region, in display order: convention by convention, the outermost region first."""
    found: dict[str, str] = {}
    for convention in CONVENTIONS.values():
        for name, region in sorted(convention.regions.items(), key=lambda item: -len(item[1].labels)):
            found.setdefault(name, region.colour)
    return found


def display_order(names: Iterable[str]) -> list[str]:
    """The known regions among some names, in display order (see `colours`)."""
    given = set(names)
    return [name for name in colours() if name in given]


def conventions_by_protocol() -> dict[str, tuple[str, ...]]:
    """For each scoring protocol the conventions it reads; the one whose label values it scores comes first."""
    found: dict[str, list[str]] = {}
    for name, convention in CONVENTIONS.items():
        for protocol in convention.protocols:
            found.setdefault(protocol, []).append(name)
    return {
        protocol: tuple(sorted(names, key=lambda name: len(CONVENTIONS[name].aliases)))
        for protocol, names in found.items()
    }


def aliases_of(conventions: Iterable[str]) -> dict[int, int]:
    """Label values that are read as others where conventions are read alike: value -> the value that replaces it."""
    return {value: other for name in conventions for value, other in CONVENTIONS[name].aliases.items()}
