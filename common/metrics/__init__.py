"""Score segmentations: pure functions of arrays."""

from .. import lazy

__getattr__ = lazy(__name__, measures="dice hd95", protocols="Protocol Scores protocol")
