"""Remarks on DICOM results for the people who read them."""

from typing import Literal, NamedTuple

Kind = Literal["contrast", "coverage", "series", "precondition", "prepared", "quality", "spacing", "cleanup"]
HELD = ("contrast", "coverage")  # a person should look before such a result is used


class Remark(NamedTuple):
    """A remark on a result; `result.json` lists those of the kinds in `HELD` as `held`."""

    kind: Kind
    text: str
