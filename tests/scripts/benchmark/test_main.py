"""`scripts.benchmark`: what it compares, and what it prints and writes."""

import json
from collections import Counter

import pytest
import torch

from common.errors import InputError
from common.metrics.protocols import brats
from scripts.benchmark import __main__ as benchmark
from scripts.phantoms.cohort import make
from scripts.phantoms.layouts import LAYOUTS
from tests.oracles import lesionwise
from tests.oracles.masks import balls, noise


def test_ratios_are_to_the_first_variant(monkeypatch, tmp_path, capsys):
    variants = {"ours": iter([1.0, 2.0, 4.0]).__next__, "plain": iter([3.0, 4.0, 4.0]).__next__}
    monkeypatch.setitem(benchmark.BENCHMARKS, "views", lambda: variants)
    benchmark.benchmark("views", repeats=3, json=str(tmp_path / "figures.json"))
    rows = json.loads((tmp_path / "figures.json").read_text())["variants"]
    assert rows["ours"] == {"seconds": 2.0, "ratio": 1.0, "lowest": 1.0, "highest": 1.0}
    assert rows["plain"] == {"seconds": 4.0, "ratio": 2.0, "lowest": 1.0, "highest": 3.0}  # the median of 3, 2 and 1
    assert "plain" in capsys.readouterr().out


def test_a_process_of_its_own_says_what_it_took(monkeypatch):
    """Memory that this process has is not that of the measured one, and neither are its settings."""
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")
    bytearray(2**30)
    program = (
        "import os, sys; taken = bytearray(2**28); seconds = 1.5 if 'THP_MEM_ALLOC_ENABLE' not in os.environ else 0"
    )
    found = benchmark._in_process(program, {}, "word")
    assert found.seconds == 1.5
    assert 0.25 < found.peak < 0.5


def test_an_unknown_benchmark_is_refused():
    with pytest.raises(
        InputError,
        match="benchmark nonsense: expected one of views, step, attention, precision, metrics, reading, crops",
    ):
        benchmark.benchmark("nonsense")


@pytest.mark.parametrize("repeats", [0, -1, "two", 1.5])
def test_repeats_must_be_counted(repeats):
    with pytest.raises(InputError, match=f"repeats={repeats}: expected a whole number from 1"):
        benchmark.benchmark("views", repeats=repeats)


def test_the_plain_way_covers_what_the_method_says():
    """Boxes are added until the target, 0 to 30 % of the volume, is reached; overlaps count twice."""
    generator = torch.Generator().manual_seed(0)
    shape = torch.Size((40, 40, 40))
    for _ in range(20):
        sizes = [[side.stop - side.start for side in box] for box in benchmark.draw_boxes(shape, generator)]
        volumes = [x * y * z for x, y, z in sizes]
        assert sum(volumes[:-1]) < 0.3 * 40**3
        assert all(2 <= edge < 10 for size in sizes for edge in size)


@pytest.mark.parametrize("in_boxes", [True, False])
def test_the_plain_way_scores_as_the_challenge_does(in_boxes):
    for prediction, reference in [*map(balls, range(12)), *map(noise, range(12))]:
        figures, rows = lesionwise.brats(prediction, reference, (1, 1, 1), "GLI")
        if prediction.any() and any(row[0] and row[3] for row in rows):  # it takes masks that are not empty
            assert benchmark.score_plainly(prediction, reference, in_boxes) == pytest.approx(figures, abs=1e-6)


@pytest.fixture(scope="module")
def case():
    return benchmark.draw_case()


def test_the_case_has_ten_lesions_of_which_one_is_missed(case):
    lesions = brats(*case).lesions
    assert case[0].shape == case[1].shape == (240, 240, 155)
    reference = [lesion for lesion in lesions if lesion.is_reference]
    assert len(reference) == 10
    assert [lesion.is_found for lesion in reference].count(False) == 1
    assert any(lesion.volume > 100 for lesion in lesions if not lesion.is_reference)
    assert 30 < reference[0].volume ** (1 / 3) < 50  # mm; several centimetres
    assert 2 < reference[-1].volume ** (1 / 3) < 5  # mm


def test_figures_that_differ_end_the_benchmark(monkeypatch):
    masks = balls(0)
    monkeypatch.setattr(benchmark, "draw_case", lambda: masks)
    variants = benchmark.metrics_variants()
    for run in variants.values():
        assert run() >= 0
    monkeypatch.setattr(benchmark, "_hd95_by_transforms", lambda *_: 1.0)
    with pytest.raises(AssertionError, match="hd95 is"):
        variants["whole volumes"]()


def test_a_batch_that_is_read_has_four_crops_of_fewer_volumes(tmp_path):
    make("ukb", 4, str(tmp_path), spacing=4.0, workers=1)
    entries = [
        {"subject": case.subject, "image": [str(tmp_path / case.images[name]) for name in ("T1", "FLAIR")]}
        for case in map(LAYOUTS["ukb"].case, range(4))
    ]
    for crops in (1, 2, 4):
        batch = next(benchmark.reading_batches(entries, crops))
        assert batch["image"].shape == (4, 2, 96, 96, 96)
        assert sorted(Counter(batch["subject"]).values()) == [crops] * (4 // crops)
