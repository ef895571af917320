"""`scripts.benchmark`: its variants run."""

from scripts.benchmark import CROPPED, WORKS, case, one_step


def test_steps_and_cases_run(monkeypatch):
    for name, value in {"SIZE": "micro", "EDGE": 64, "BRAIN": (64, 64, 64)}.items():
        monkeypatch.setattr(f"scripts.benchmark.{name}", value)
    for work, code in zip(WORKS, ("ours", "stock"), strict=True):
        one_step(code, work)()
    for code in ("ours", CROPPED):
        case(code)()
