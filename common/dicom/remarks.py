"""Remarks for readers of the results."""

from typing import Literal, NamedTuple, get_args

Kind = Literal[
    "contrast", "coverage", "series", "replaces", "precondition", "prepared", "quality", "spacing", "cleanup"
]
KINDS: tuple[str, ...] = get_args(Kind)


class Remark(NamedTuple):
    """A remark and its kind. The service's option `--hold` lists kinds: results with these remarks wait for review."""

    kind: Kind
    text: str
