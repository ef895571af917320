"""Remarks on DICOM results for the people who read them."""

from typing import Literal, NamedTuple, get_args

Kind = Literal[
    "contrast", "coverage", "series", "replaces", "precondition", "prepared", "quality", "spacing", "cleanup"
]
KINDS: tuple[str, ...] = get_args(Kind)


class Remark(NamedTuple):
    """A remark on a result; results with a remark of a kind in the service's option `--hold` wait for review."""

    kind: Kind
    text: str
