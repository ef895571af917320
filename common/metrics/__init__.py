"""Score segmentations: pure functions of arrays."""

from .. import lazy

__getattr__, __dir__ = lazy(
    __name__, {"cards": "PRESENT Protocol Scores by_metric", "measures": "dice hd95", "protocols": "protocol"}
)
