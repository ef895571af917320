"""The length of a training, given in iterations or in epochs."""

import json
import re
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from common.data.datasets import CaseSampler
from common.errors import ArgumentError, InputError
from common.options import Options
from common.training.distributed import Processes
from common.training.plan import Plan, length
from tests.support import ROOT

ATLAS = {"iterations": "600 epochs", "val_interval": "5 epochs", "warmup_iterations": 500}  # of atlas_finetune
BATCH_SIZE = 4


def length_of(cases, cases_per_step, **given):
    return length(Options(**{"warmup_iterations": 0} | given), cases, cases_per_step)


def counted_length(cases, cases_per_step, epochs, val_epochs):
    """Both intervals, by counting what is read step by step."""

    def steps_until(reads):
        steps = read = 0
        while read < reads:
            steps, read = steps + 1, read + cases_per_step
        return steps

    interval, iterations = steps_until(val_epochs * cases), 0
    while iterations * cases_per_step < epochs * cases:
        iterations += interval
    return iterations, interval


@pytest.mark.parametrize("gpus", [1, 2, 4])
@pytest.mark.parametrize("cases", [489, 555, 682])
def test_epochs_are_those_of_the_split_whatever_its_size_and_the_gpus(cases, gpus):
    found = length_of(cases, BATCH_SIZE * gpus, **ATLAS)
    assert (found.iterations, found.val_interval) == counted_length(cases, BATCH_SIZE * gpus, 600, 5)
    assert found.epochs == round(found.iterations * BATCH_SIZE * gpus / cases, 2)
    assert 600 <= found.epochs < 600 * (1 + gpus * BATCH_SIZE / (5 * cases))  # less than a step too long in an interval


def test_the_documented_lengths_are_those_of_the_runs():
    rows = re.findall(
        r"^\| (\d+) \| (\d+) \| ([\d,]+) \| (\d+) \| ([\d.]+) \|$", (ROOT / "docs/scale.md").read_text(), re.MULTILINE
    )
    assert len(rows) == 6
    for cases, gpus, iterations, interval, epochs in rows:
        counted = counted_length(int(cases), BATCH_SIZE * int(gpus), 600, 5)
        assert (int(iterations.replace(",", "")), int(interval)) == counted
        assert float(epochs) == round(counted[0] * BATCH_SIZE * int(gpus) / int(cases), 1)


@pytest.mark.parametrize(("cases", "cases_per_step", "epochs"), [(7, 3, 4), (5, 5, 3), (8, 3, 1), (3, 8, 2)])
def test_each_case_is_read_as_often_as_there_are_epochs(cases, cases_per_step, epochs):
    found = length_of(cases, cases_per_step, iterations=f"{epochs} epochs", val_interval="1 epochs")
    reads = Counter(draw.case for draw in islice(CaseSampler(range(cases)), found.iterations * cases_per_step))
    assert min(reads[case] for case in range(cases)) >= epochs
    one_interval_less = (found.iterations - found.val_interval) * cases_per_step
    assert one_interval_less < epochs * cases


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"iterations": 200, "val_interval": 20}, (200, 20, 0, 8.0)),
        ({"iterations": 200, "val_interval": "4 epochs"}, (200, 100, 0, 8.0)),
        ({"iterations": "7 epochs", "val_interval": 100}, (200, 100, 0, 8.0)),
        ({"iterations": "8 epochs", "val_interval": 100}, (200, 100, 0, 8.0)),
        ({"iterations": "9 epochs", "val_interval": 100}, (300, 100, 0, 12.0)),
        ({"iterations": "2 epochs", "val_interval": "0.5 epochs"}, (52, 13, 0, 2.08)),  # 12.5 steps, rounded up
        ({"iterations": 200, "val_interval": 20, "warmup_iterations": "0.1 epochs"}, (200, 20, 3, 8.0)),
    ],
)
def test_each_may_be_given_in_either_unit(given, expected):
    assert length_of(100, 4, **given) == expected


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"iterations": 700, "val_interval": 500}, "iterations=700: expected a multiple of val_interval=500"),
        (
            {"iterations": 9, "val_interval": "2 epochs"},
            "iterations=9: expected a multiple of val_interval=2 epochs, 50 iterations",
        ),
        (
            {"iterations": "2.5 epochs", "val_interval": 500},
            "iterations=2.5 epochs, 63 iterations: expected at least val_interval=500, or a shorter interval",
        ),
        (
            {"iterations": 10, "val_interval": 10, "warmup_iterations": 11},
            "warmup_iterations=11: expected at most iterations=10",
        ),
        (
            {"iterations": "1 epochs", "val_interval": "1 epochs", "warmup_iterations": "2 epochs"},
            "warmup_iterations=2 epochs, 50 iterations: expected at most iterations=1 epochs, 25 iterations",
        ),
    ],
)
def test_a_length_that_does_not_fit_is_named(given, line):
    with pytest.raises(ArgumentError) as error:
        length_of(100, 4, **given)
    assert str(error.value) == line


@pytest.fixture
def datalist_of(tmp_path):
    """Writes a datalist that has as many cases in each split as it is told."""

    def datalist_of(**splits):
        content = {"name": "a", "modalities": ["T1"], "label_convention": None, "testing": []} | {
            split: [{"subject": f"{split}{n}", "image": [f"{split}{n}.nii.gz"]} for n in range(count)]
            for split, count in splits.items()
        }
        (tmp_path / "list.json").write_text(json.dumps(content))
        return str(tmp_path / "list.json")

    return datalist_of


def options_of(tmp_path, datalist_of, **others):
    return Options(
        batch_size=2,
        global_batch_size=8,
        iterations="6 epochs",
        val_interval="3 epochs",
        warmup_iterations=1,
        datalist=datalist_of(training=10, validation=2),
        dataset_dir=str(tmp_path),
        output_dir=str(tmp_path / "eval"),
        ckpt_dir=str(tmp_path / "models"),
        resume=False,
        **others,
    )


def pair():
    """Stands for the main one of two processes."""
    processes = Processes()
    processes.count = 2
    return processes


def test_a_volume_that_gives_two_crops_is_read_once(tmp_path, datalist_of):
    options = options_of(tmp_path, datalist_of, crops_per_volume=2)
    plan = Plan("a", "SSLHead", "none", pair(), options)
    # 4 of 10 cases a step: 3 epochs are 30 / 4 steps, rounded up 8; 6 epochs are 60 / 4, rounded up to 2 intervals of 8
    assert plan.length == (16, 8, 1, 6.4)
    assert (plan.crops_per_volume, plan.volumes_per_batch) == (2, 1)
    assert plan.global_batch_size == 8


def test_a_plan_counts_the_cases_of_all_processes_and_records_both_units(tmp_path, datalist_of):
    options = options_of(tmp_path, datalist_of)
    plan = Plan("a", "SSLHead", "none", pair(), options)
    # 8 of 10 cases a step: 3 epochs are 30 / 8 steps, rounded up 4; 6 epochs are 60 / 8, rounded up to 2 intervals of 4
    assert plan.length == (8, 4, 1, 6.4)
    assert {name: plan.settings[name] for name in plan.length._fields} == plan.length._asdict()
    assert (plan.crops_per_volume, plan.volumes_per_batch) == (1, 2)
    assert plan.accumulation_steps == 2
    assert plan.global_batch_size == plan.settings["global_batch_size"] == 8


@pytest.fixture
def incomplete(tmp_path, datalist_of):
    """Options of a training on ten subjects with T1 and T2, of whom three lack T2."""
    options = options_of(tmp_path, datalist_of, modalities=["T2", "T1"], label_convention=None)
    content = json.loads(Path(options.datalist).read_text()) | {"modalities": ["T1", "T2"]}
    for split in ("training", "validation"):
        for number, entry in enumerate(content[split]):
            entry["image"].append(None if split == "training" and number < 3 else f"{split}{number}_t2.nii.gz")
            for file in filter(None, entry["image"]):
                (tmp_path / file).touch()
    Path(options.datalist).write_text(json.dumps(content))
    return options


def test_what_training_subjects_lack_is_recorded_and_printed(incomplete, capsys):
    incomplete.modality_dropout = 0.0
    plan = Plan("a", "SwinUNETR", "none", Processes(), incomplete)
    assert plan.settings["missing_modalities"] == ["T2"]
    assert capsys.readouterr().out == "missing: T2 in 3 of 10 training subjects; zeros take their place\n"
    assert [case["image"][0] is None for case in plan.cases("training")] == [True] * 3 + [False] * 7


def test_self_supervised_training_needs_all_modalities(incomplete):
    plan = Plan("a", "SSLHead", "none", Processes(), incomplete)
    assert "missing_modalities" not in plan.settings
    with pytest.raises(InputError, match=r"subject training0 lacks T2; expected all of T2, T1$"):
        plan.cases("training")
