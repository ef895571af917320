"""`scripts.benchmark gpu`, on the processor at a small size: all but the GPU itself."""

import pytest
from torch.utils.flop_counter import FlopCounterMode

from scripts.benchmark import gpu, timing, training


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA L4", 121),
        ("NVIDIA L40S", 362),
        ("NVIDIA A10G", None),  # another chip
        ("NVIDIA H200 MIG 1g.18gb", None),
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


def test_works_take_the_device_and_state_the_share_of_its_peak(monkeypatch):
    """Two seconds for each step; the whole case counts by the clock."""
    seen = []
    monkeypatch.setattr(gpu, "run_alone", lambda *words, threads: seen.append(words) or timing.Measured(2.0, 1.0))
    monkeypatch.setattr(gpu, "teraflops_of", lambda work, size, edge: 30.0)
    case = {name: lambda: timing.Measured(9.0, 5.0, 4.0) for name in ("ours", "ours, bfloat16", "stock")}
    monkeypatch.setattr(gpu.whole_case, "random_case", lambda place, size, edge, device: seen.append(device) or case)
    works = gpu.works_on("cuda", "micro", 64, 100.0)
    assert works["pretraining"]["ours"]() == timing.Measured(2.0, 1.0, rate=15.0, share=0.15)
    assert works["window"]["stock"]().share is None
    assert works["whole_case"]["stock"]() == timing.Measured(4.0)
    assert gpu.works_on("cuda", "micro", 64, None)["fine_tuning"]["stock"]().share is None
    assert seen == [
        "cuda",
        ("scripts.benchmark.training:pretraining_step", "bfloat16", "cuda", "micro", "64"),
        ("scripts.benchmark.whole_case:window_pass", "stored", "bfloat16", "cuda", "micro", "64"),
        "cuda",
        ("scripts.benchmark.training:fine_tuning_step", "stock", "cuda", "micro", "64"),
    ]
