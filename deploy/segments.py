"""DICOM segments of a label map's values."""

from typing import NamedTuple

from common.data.regions import cards_of, label_names, painting_order


class Segment(NamedTuple):
    """A DICOM segment for one value of a label map; `code` is text such as `79654002 SCT Edema`, or "" if unknown."""

    value: int
    label: str  # up to 64 characters, DICOM's limit
    colour: str
    code: str


def segments_of(convention: str) -> list[Segment]:
    """Return the segments of a convention's label maps, sorted by label value: the regions outside their inner regions.

    Example:
        >>> [segment.label for segment in segments_of("whole=1+2,core=1:6574001 SCT Necrosis")]
        ['core', 'whole outside core']
    """
    regions, names = [*cards_of(convention).values()], label_names(convention)
    innermost = {value: regions[channel] for channel, value in painting_order(convention)}
    return [
        Segment(value, (region.part or names[value][0])[:64], names[value][1], region.code)
        for value, region in sorted(innermost.items())
    ]
