"""`scripts.benchmark`: what it compares, and what it prints and writes."""

import json

import pytest
import torch

from common.preflight import InputError
from scripts import benchmark


def test_ratios_are_to_the_first_variant(monkeypatch, tmp_path, capsys):
    variants = {"ours": iter([1.0, 2.0, 4.0]).__next__, "plain": iter([3.0, 4.0, 4.0]).__next__}
    monkeypatch.setitem(benchmark.BENCHMARKS, "views", lambda: variants)
    benchmark.benchmark("views", repeats=3, json=str(tmp_path / "figures.json"))
    rows = json.loads((tmp_path / "figures.json").read_text())["variants"]
    assert rows["ours"] == {"seconds": 2.0, "ratio": 1.0}
    assert rows["plain"] == {"seconds": 4.0, "ratio": 2.0}  # the median of 3, 2 and 1
    assert "plain" in capsys.readouterr().out


def test_an_unknown_benchmark_is_refused():
    with pytest.raises(InputError, match="benchmark nonsense: expected one of views, step, precision"):
        benchmark.benchmark("nonsense")


@pytest.mark.parametrize("repeats", [0, -1, "two", 1.5])
def test_repeats_must_be_counted(repeats):
    with pytest.raises(InputError, match=f"--repeats={repeats}: expected a whole number from 1"):
        benchmark.benchmark("views", repeats=repeats)


def test_the_plain_way_covers_what_the_method_says():
    """Boxes are added until the target, 0 to 30 % of the volume, is reached; overlaps count twice."""
    generator = torch.Generator().manual_seed(0)
    shape = torch.Size((40, 40, 40))
    for _ in range(20):
        sizes = [[side.stop - side.start for side in box] for box in benchmark._draw_boxes(shape, generator)]
        volumes = [x * y * z for x, y, z in sizes]
        assert sum(volumes[:-1]) < 0.3 * 40**3
        assert all(2 <= edge < 10 for size in sizes for edge in size)
