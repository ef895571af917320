"""Score segmentations: pure functions of arrays."""

from .. import lazy

__getattr__, __dir__ = lazy(
    __name__, {"measures": "dice hd95", "protocols": "PRESENT Protocol Scores by_metric protocol"}
)
