"""The length of a training, in iterations or in epochs, and its plan."""

import json

import pytest

from common import weights
from common.options import Options
from common.training.distributed import Processes
from common.training.plan import Plan, length
from tests.support import refused


@pytest.mark.parametrize(
    ("iterations", "interval", "warmup", "expected"),
    [
        ("7 epochs", 100, 0, (200, 100, 0, 8.0)),
        ("9 epochs", 100, "0.1 epochs", (300, 100, 3, 12.0)),
        ("2 epochs", "0.5 epochs", 0, (52, 13, 0, 2.08)),  # 12.5 steps, rounded up
        # iterations stay, and the interval is the divisor that differs by the smallest factor
        (1000, 300, 0, (1000, 250, 0, 40.0)),
        (997, 300, 0, (997, 997, 0, 39.88)),  # a prime: not every step
    ],
)
def test_each_may_be_given_in_either_unit(iterations, interval, warmup, expected):
    """For a hundred cases, four per step."""
    options = Options(iterations=iterations, val_interval=interval, warmup_iterations=warmup)
    assert length(options, cases=100, cases_per_step=4) == expected


@pytest.fixture
def options(tmp_path):
    """Options of a training on ten subjects; nothing reads their files."""
    content = {"name": "a", "modalities": ["T1", "T2"], "label_convention": None}
    for split, count in (("training", 10), ("validation", 2)):
        names = [f"{split}{number}" for number in range(count)]
        content[split] = [{"subject": name, "image": [f"{name}_t1.nii", f"{name}_t2.nii"]} for name in names]
    (tmp_path / "list.json").write_text(json.dumps(content))
    places = {"datalist": tmp_path / "list.json", "dataset_dir": tmp_path}
    places |= {"output_dir": tmp_path / "eval", "ckpt_dir": tmp_path / "models"}
    lengths = {"iterations": "6 epochs", "val_interval": "3 epochs", "warmup_iterations": 1}
    values = {"batch_size": 2, "global_batch_size": 8, "modalities": ["T2", "T1"], "resume": False, "pretrained": None}
    return Options(**{name: str(place) for name, place in places.items()}, **lengths, **values)


# 8 of 10 cases a step: 3 epochs are 30 / 8 steps, rounded up 4; 6 epochs are 60 / 8, rounded up to 2 times 4.
# A volume that gives two crops is read once: 4 of 10 cases a step
@pytest.mark.parametrize(("crops", "length"), [(1, (8, 4, 1, 6.4)), (2, (16, 8, 1, 6.4))])
def test_a_plan_counts_the_cases_of_all_processes(options, crops, length):
    processes = Processes()
    processes.count = 2
    options.crops_per_volume = crops
    plan = Plan("a", processes, options)
    assert plan.length == length
    assert (plan.volumes_per_batch, plan.accumulation_steps) == (2 // crops, 2)


def test_a_resumed_run_refuses_other_weights_by_their_content(options, tmp_path):
    for name in ("first", "copy", "other"):
        (tmp_path / f"{name}.pt").write_text(name.replace("copy", "first"))
    options.pretrained = str(tmp_path / "first.pt")
    state = tmp_path / "models/iteration-0000001.pt"
    weights.write({"metadata": Plan("a", Processes(), options).settings}, state)
    options.resume, options.pretrained = "auto", str(tmp_path / "copy.pt")
    assert Plan("a", Processes(), options).resumed_from == state
    options.pretrained = str(tmp_path / "other.pt")
    with refused("pretrained"):
        Plan("a", Processes(), options)
