"""Remarks for readers of the results."""

from typing import Literal, NamedTuple, get_args

Kind = Literal[
    "contrast", "coverage", "series", "replaces", "precondition", "prepared", "quality", "spacing", "cleanup"
]
KINDS: tuple[str, ...] = get_args(Kind)


class Remark(NamedTuple):
    """A remark and its kind; the service holds results with remarks of the kinds in its option `--hold`."""

    kind: Kind
    text: str
