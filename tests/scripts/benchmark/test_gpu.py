"""`scripts.benchmark gpu`, on the processor at a small size: all but the GPU itself."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from common.errors import InputError
from scripts.benchmark import __main__ as benchmark
from scripts.benchmark import gpu, timing, training


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_benchmark_of_a_gpu_needs_one():
    with pytest.raises(InputError, match=r"^benchmark gpu: PyTorch finds no GPU; expected one"):
        benchmark.benchmark("gpu")


@pytest.mark.parametrize("peak", [0, -1, "much"])
def test_a_peak_must_be_a_number(peak):
    with pytest.raises(InputError, match=f"peak={peak}: expected a number from"):
        benchmark.benchmark("gpu", peak=peak)


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A100 80GB PCIe", 312),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H200", 989),
        ("NVIDIA L4", 121),
        ("NVIDIA L40S", 362),
        ("NVIDIA A10", 125),
        ("NVIDIA GeForce RTX 4090", 165),
        ("NVIDIA A10G", None),  # another chip
        ("NVIDIA L40", None),
        ("NVIDIA H100 NVL", None),
        ("NVIDIA H200 NVL", None),
        ("NVIDIA H200 MIG 1g.18gb", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("Tesla T4", None),
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


def test_a_bundle_trains_on_the_device_that_is_named(capsys):
    gpu.run_bundles("cpu", ("ukb_ssl_pretrain",))
    assert "ukb_ssl_pretrain: two steps and a validation on cpu" in capsys.readouterr().out
