"""Networks for the option `architecture`: the paper's SwinUNETR, and baselines to compare it with."""

from .. import lazy

__getattr__ = lazy(
    __name__, architectures="NETWORKS pretraining_network segmentation_network", probe="Probe", transbts="TransBTS"
)
