"""Segmentation networks, chosen by the option `architecture`: the paper's and baselines."""

from .. import lazy

__getattr__, __dir__ = lazy(
    __name__, {"architectures": "NETWORKS segmentation_network", "probe": "Probe", "transbts": "TransBTS"}
)
