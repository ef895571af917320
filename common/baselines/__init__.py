"""The segmentation networks by `architecture`: the paper's own and the baselines that it compares."""

from .. import lazy

__getattr__, __dir__ = lazy(
    __name__, {"architectures": "NETWORKS segmentation_network", "probe": "Probe", "transbts": "TransBTS"}
)
