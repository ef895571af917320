"""Networks for the option `architecture`: the paper's SwinUNETR, and baselines to compare it with."""

from .. import lazy

__getattr__ = lazy(
    __name__, architectures="ARCHITECTURES Probe pretraining_network segmentation_network", transbts="TransBTS"
)
