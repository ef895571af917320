"""The measurements for a GPU, run here on a CPU in small sizes; code for CUDA alone does not run."""

import json

import pytest

from scripts.benchmark import gpu

TINY = gpu.Setting("cpu", "float32", "micro", 64, 0, 1, (72, 72, 72), (64, 64, 64), 4.0)


@pytest.mark.parametrize(
    ("job", "work", "variant"),
    [
        pytest.param("profile", "fine_tuning", "ours recomputed", marks=pytest.mark.slow),
        ("case", "case", "ours"),
        pytest.param("step", "pretraining", "stock channels_last", marks=pytest.mark.slow),
        pytest.param("case", "case", "stock", marks=pytest.mark.slow),
        pytest.param("training", "training", "store", marks=pytest.mark.slow),
    ],
)
def test_a_measurement_gives_its_figures(tmp_path, job, work, variant):
    row = getattr(gpu, job)(work, variant, str(tmp_path), TINY)
    assert row["seconds"] > 0
    assert row["peak_gib"] > 0
    if job == "profile":
        assert len(row["heaviest"]) == gpu.HEAVIEST
        assert 0.1 < sum(share for _, share, _ in row["heaviest"]) <= 1
        assert 0 < row["busy"] <= 1
    assert ("waits" in row) == (job == "training")


@pytest.mark.slow
@pytest.mark.parametrize("code", ["ours", "stock"])
def test_a_case_is_measured_from_disk(tmp_path, code):
    assert gpu.disk("case from disk", code, str(tmp_path), TINY)["seconds"] > 0


@pytest.mark.slow
def test_the_command_measures_in_a_process_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "jobs", lambda: iter([("case", "case", "ours")]))
    (row,) = gpu.gpu(tmp_path / "gpu.json", "this", TINY)
    assert row["seconds"] > 0


def test_a_call_goes_on_where_the_one_before_was_cut_off(monkeypatch, tmp_path, capsys):
    jobs = [("step", "pretraining", variant) for variant in ("ours", "stock", "slow", "last")]
    monkeypatch.setattr(gpu, "jobs", lambda: iter(jobs))
    monkeypatch.setattr(gpu, "MODULE", "tests.scripts.benchmark.measurements")
    file = tmp_path / "gpu.json"
    other = {"machine": "other", "job": "step", "work": "pretraining", "variant": "ours", "seconds": 1, "peak_gib": 1}
    file.write_text(json.dumps([other]))
    assert gpu.gpu(file, "this", TINY, limit=0) == []
    assert "pretraining: ours: not measured" in capsys.readouterr().out
    first, second = gpu.gpu(file, "this", TINY, limit=12)
    assert "pretraining: slow: cut off" in capsys.readouterr().out
    assert first == other | {"machine": "this", "seconds": 2, "peak_gib": 3}
    assert second["error"] == "RuntimeError: out of memory"
    assert json.loads(file.read_text()) == [other, first, second]
    jobs.pop(2)
    rows = gpu.gpu(file, "this", TINY)
    assert [row["variant"] for row in rows] == ["ours", "stock", "last"]
    assert gpu.table(rows)[2:] == [
        "| step, pretraining: ours | 2 | 1.00 | 3.0 GiB |  |  |",
        "| step, pretraining: stock | RuntimeError: out of memory | | | | |",
        "| step, pretraining: last | 2 | 1.00 | 3.0 GiB |  |  |",
    ]


def test_times_are_compared_with_ours_of_the_same_crops():
    seconds = {"ours fused": 1, "stock": 2, "ours fused 128": 4, "stock 128": 6}
    rows = [
        {"job": "step", "work": "fine_tuning", "variant": code, "seconds": value, "peak_gib": 1}
        for code, value in seconds.items()
    ]
    assert [line.split("|")[3].strip() for line in gpu.table(rows)[2:]] == ["1.00", "2.00", "1.00", "1.50"]
