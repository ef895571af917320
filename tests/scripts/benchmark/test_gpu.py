"""`scripts.benchmark gpu`, on the processor at a small size: all but the GPU itself."""

import pytest
from torch.utils.flop_counter import FlopCounterMode

from scripts.benchmark import gpu, training


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA L40S", 362),
        ("NVIDIA A10G", None),  # another chip
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
    ],
)
def test_peaks_are_those_of_data_sheets(name, peak):
    assert gpu.peak_of(name) == peak


@pytest.mark.parametrize("work", ["pretraining", "fine_tuning"])
def test_operations_are_those_of_the_stock_step(work):
    """Counted while the step runs; its loss and views have a thousandth of them."""
    run = getattr(training, f"{work}_step")("stock", "cpu", "micro", "64")
    with FlopCounterMode(display=False) as counter:
        run()
    assert gpu.teraflops_of(work, "micro", 64) == pytest.approx(counter.get_total_flops() / 1e12, rel=0.01)
