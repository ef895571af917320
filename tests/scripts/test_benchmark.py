"""`scripts.benchmark`: its variants run, and our steps start fewer kernels than stock steps."""

import pytest

from scripts.benchmark import WORKS, case, count, one_step


@pytest.fixture(autouse=True)
def small(monkeypatch):
    for name, value in {"SIZE": "micro", "EDGE": 64, "BRAIN": (64, 64, 64), "CASE": (64, 64, 64)}.items():
        monkeypatch.setattr(f"scripts.benchmark.{name}", value)


@pytest.mark.parametrize("work", WORKS)
def test_our_steps_start_fewer_kernels(work):
    (ours, waits), (stock, _) = (count(one_step(code, work, "meta")) for code in ("ours", "stock"))
    assert (ours < stock, waits) == (True, 1)


@pytest.mark.parametrize("code", ["ours", "stock"])
def test_cases_run(code):
    case(code)()
