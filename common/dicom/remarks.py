"""Remarks for readers of the results."""

from typing import Literal, NamedTuple, get_args

Kind = Literal[
    "contrast", "coverage", "series", "replaces", "precondition", "prepared", "quality", "spacing", "cleanup"
]
KINDS: tuple[str, ...] = get_args(Kind)


class Remark(NamedTuple):
    """A remark and its kind, by which the service decides whether a person must look first."""

    kind: Kind
    text: str
