"""The segmentation networks that the option `architecture` selects: the paper's network and baselines."""

from .. import lazy

__getattr__, __dir__ = lazy(
    __name__, {"architectures": "NETWORKS segmentation_network", "probe": "Probe", "transbts": "TransBTS"}
)
