"""`scripts.benchmark`: what it compares, and what it prints and writes."""

import json
import platform
from datetime import date

import monai
import pytest
import torch

from scripts.benchmark import __main__ as benchmark
from scripts.benchmark import corruption, growth, lesions, reading, timing, training
from tests.oracles import lesionwise
from tests.oracles.masks import balls, noise

CURVES = {"time, s|size": {"ours": [(1, 2), (2, 3)], "stock": [(1, 3), (2, 6)]}}


def fake(monkeypatch, *names):
    """Benchmarks whose variants take known times."""
    for name in names:
        variants = {"ours": iter([1.0, 2.0, 4.0]).__next__, "stock": iter([3.0, 4.0, 4.0]).__next__}
        monkeypatch.setitem(benchmark.BENCHMARKS, name, lambda variants=variants, **_: {"work": variants})


def test_ratios_seconds_by_the_clock_and_dice_are_in_the_lines(monkeypatch, tmp_path, capsys):
    dice = {"WT": 0.912345, "TC": 0.8}
    variants = {
        "ours": iter([timing.Measured(1.0, 2.0, 3.0, dice), timing.Measured(1.0, 2.0, 4.0, dice)]).__next__,
        "stock": iter([timing.Measured(2.0, 2.0, 9.0), timing.Measured(2.0, 2.0, 8.0)]).__next__,
    }
    monkeypatch.setitem(benchmark.BENCHMARKS, "views", lambda: {"work": variants})
    benchmark.benchmark("views", repeats=2, json=str(tmp_path / "figures.json"))
    printed = capsys.readouterr().out
    assert "by the clock 8.50 s   x 2.50" in printed  # ratios 3 and 2
    assert "Dice WT 0.91234, TC 0.80000" in printed
    ours, stock = json.loads((tmp_path / "figures.json").read_text())["figures"]
    names = ("ratio", "clock_seconds", "clock_ratio", "clock_lowest", "clock_highest")
    assert [stock[name] for name in names] == [2.0, 8.5, 2.5, 2.0, 3.0]
    assert ours["dice"] == dice


def test_all_writes_the_tables_of_the_page(monkeypatch, tmp_path):
    page = tmp_path / "benchmarks.md"
    page.write_text(benchmark.PAGE.read_text())  # the real one has a place for each
    monkeypatch.setattr(benchmark, "PAGE", page)
    monkeypatch.setattr(benchmark, "PICTURE", tmp_path / "growth.png")
    monkeypatch.setattr(growth, "measure", lambda: CURVES)
    fake(monkeypatch, *benchmark.BENCHMARKS)
    file = tmp_path / "figures.json"
    benchmark.benchmark("all", repeats=3, json=str(file), before="none")  # a shallow clone has no earlier commit
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")
    text = page.read_text()
    assert text.count("| stock | 4 | 2.00 (1.00 to 3.00) |") == len(benchmark.BENCHMARKS) - 2
    assert text.count("| stock | 3.5 | 2.50 (2.00 to 3.00) |") == 1  # two steps
    assert text.count("| stock | 3 | 3.00 |") == 1  # one inference
    on = f"PyTorch {torch.__version__}, MONAI {monai.__version__}, Python {platform.python_version()}, "
    assert text.count(f"Measured on {date.today()}, 3 repeats. {on}") == len(benchmark.BENCHMARKS) - 2
    said = json.loads(file.read_text())
    assert {each["benchmark"] for each in said["figures"]} == set(benchmark.BENCHMARKS)
    assert said["growth"] == {"time, s|size": {"ours": [[1, 2], [2, 3]], "stock": [[1, 3], [2, 6]]}}


def test_a_process_has_memory_and_settings_of_its_own(monkeypatch):
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")
    bytearray(2**30)
    found = timing.run_alone("tests.scripts.benchmark.programs:allocate", "28")
    assert 0.25 < found.peak < 0.6
    assert found.seconds >= 0
    with pytest.raises(RuntimeError, match="programs:fail: ended with status 1"):
        timing.run_alone("tests.scripts.benchmark.programs:fail")


def test_a_process_is_measured_until_it_says_a_word():
    program = "import time; list(range(10**6)); print('ready', flush=True); time.sleep(60)"
    found = timing.run_process(["-c", program], until="ready")
    assert 0 < found.seconds < 20
    assert 0 < found.clock < 50  # not the minute that it would sleep
    with pytest.raises(RuntimeError, match="ended with status 0"):
        timing.run_process(["-c", "print('other')"], until="ready")
    with pytest.raises(RuntimeError, match="ended with status 3"):
        timing.run_process(["-c", "raise SystemExit(3)"])


def test_steps_run_in_each_precision():
    """Stock steps are counted elsewhere; fine-tuning in bfloat16 takes a minute on a processor that lacks it."""
    for step, kind in (("pretraining", "float32"), ("pretraining", "bfloat16"), ("fine_tuning", "float32")):
        getattr(training, f"{step}_step")(kind, "cpu", "micro", "64")()


def test_growth_has_a_point_for_each_size(monkeypatch):
    for name, value in {"EDGES": (64,), "SUBJECTS": (10, 20), "LESIONS": (1, 3), "READ": (4, 8)}.items():
        monkeypatch.setattr(growth, name, value)
    monkeypatch.setattr(growth, "run_alone", lambda *_, **__: timing.Measured(1.0, 2.0))
    monkeypatch.setattr(growth, "_readers", lambda processes: 10.0 * processes)
    found = growth.measure()
    assert [[len(points) for points in lines.values()] for lines in found.values()] == [
        *([1, 1], [1, 1], [2], [2, 2], [2, 2], [2]),
    ]
    assert all(value > 0 for lines in found.values() for points in lines.values() for _, value in points)


def test_all_subjects_of_a_cohort_are_read(tmp_path):
    """Memory of a reader that leaves subjects out would be flat, too."""
    growth._link_cohort(tmp_path, 8)
    entries = json.loads((tmp_path / "subjects.json").read_text())
    for batches in (reading.reading_batches(entries, 1, f"{tmp_path}/store"), reading.stock_batches(entries, True)):
        seen = [next(batches) for _ in range(2)]
        assert all(batch["image"].shape == (4, 2, 96, 96, 96) for batch in seen)
        assert sorted(subject for batch in seen for subject in batch["subject"]) == [f"s{n}" for n in range(8)]
    assert len(list((tmp_path / "store").glob("*.json"))) == 8


def test_the_plain_way_covers_what_the_method_says():
    """Boxes are added until the target, 0 to 30 % of the volume, is reached; overlaps count twice."""
    generator = torch.Generator().manual_seed(0)
    shape = torch.Size((40, 40, 40))
    for _ in range(20):
        sizes = [[side.stop - side.start for side in box] for box in corruption.draw_boxes(shape, generator)]
        volumes = [x * y * z for x, y, z in sizes]
        assert sum(volumes[:-1]) < 0.3 * 40**3
        assert all(2 <= edge < 10 for size in sizes for edge in size)


@pytest.mark.parametrize("in_boxes", [True, False])
def test_the_plain_way_scores_as_the_challenge_does(in_boxes):
    for prediction, reference in [*map(balls, range(12)), *map(noise, range(12))]:
        figures, rows = lesionwise.brats(prediction, reference, (1, 1, 1), "GLI")
        if prediction.any() and any(row[0] and row[3] for row in rows):  # it takes masks that are not empty
            assert lesions.score_plainly(prediction, reference, in_boxes) == pytest.approx(figures, abs=1e-6)
