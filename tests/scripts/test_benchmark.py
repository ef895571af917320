"""`scripts.benchmark`: its variants, its figures, and the kernels and waits of a step, on tensors without values."""

import pytest

from scripts.benchmark import case, one_step


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr("scripts.benchmark.SIZE", "micro")
    monkeypatch.setattr("scripts.benchmark.EDGE", 64)


def test_steps_and_cases_run(monkeypatch, small):
    monkeypatch.setattr("scripts.benchmark.BRAIN", (64, 64, 64))
    for work, code in (("pretraining", "ours"), ("fine_tuning", "stock")):
        one_step(work, code)()
    for code in ("ours", "stock, cropped to the brain"):
        case(code)()
