import json
import random
import subprocess
import sys

import matplotlib.image
import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from matplotlib.figure import Figure
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import LrScheduleHandler, ValidationHandler
from monai.optimizers import WarmupCosineSchedule
from monai.transforms import RandGaussianNoise
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.data import DataLoader, Dataset

from common import weights
from common.handlers import Checkpoints, FiniteLoss, Pictures, Progress
from common.metrics import RegionDice
from common.preflight import InputError
from common.records import EvaluationRecord, TrainingRecord, command_line
from common.views import TwoViews
from tests.oracles.volumes import dice

CPU = torch.device("cpu")
METADATA = {"bundle": "toy", "modalities": ["T1"], "model_size": "micro"}


class Noise(Dataset):
    """Numbers from each of the three global generators, and from that of a random transform."""

    def __init__(self):
        self.transform = RandGaussianNoise(prob=1.0)

    def __len__(self):
        return 6

    def __getitem__(self, index):
        image = torch.tensor([random.random(), np.random.rand(), torch.rand(1).item(), float(index)])  # noqa: NPY002
        return {"image": self.transform(image).as_tensor(), "label": image.sum(dim=0, keepdim=True)}


class Run:
    """A training of a toy network as the bundles put theirs together; everything in it is random."""

    def __init__(self, folder, max_epochs, scores=(), resume=False, lower_is_better=False, record=False):
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002
        random.seed(0)
        self.network = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=0.1)
        self.schedule = torch.optim.lr_scheduler.StepLR(self.optimizer, step_size=2, gamma=0.7)
        self.views = TwoViews(seed=1)
        self.losses = []
        self.validator = SupervisedEvaluator(
            device=CPU, val_data_loader=DataLoader(Noise(), batch_size=2), network=self.network, decollate=False
        )
        remaining = list(scores)
        self.validator.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: self.measure(engine, remaining))
        self.record = TrainingRecord(
            folder, METADATA, lambda output: {"total": output["loss"]}, self.validator, weights.Report("a.pt", ["x"])
        )
        objects = {"optimizer": self.optimizer, "lr_scheduler": self.schedule} | (
            {"record": self.record} if record else {}
        )
        self.checkpoints = Checkpoints(
            folder / "models",
            self.network,
            objects,
            METADATA,
            self.validator,
            local_objects={"views": self.views},
            lower_is_better=lower_is_better,
            resume=resume,
        )
        self.trainer = SupervisedTrainer(
            device=CPU,
            max_epochs=max_epochs,
            train_data_loader=DataLoader(Noise(), batch_size=2, shuffle=True),
            network=self.network,
            optimizer=self.optimizer,
            loss_function=nn.MSELoss(),
            train_handlers=[
                self.checkpoints,
                LrScheduleHandler(self.schedule, print_lr=False),
                self.record,
                ValidationHandler(validator=self.validator, interval=1, exec_at_start=not scores),
            ],
            decollate=False,
        )
        self.trainer.add_event_handler(Events.ITERATION_COMPLETED, self.look)
        self.trainer.run()

    def measure(self, engine, remaining):
        engine.state.metrics["score"] = remaining.pop(0) if remaining else 0.5
        engine.state.metrics_names = ["score"]
        engine.state.key_metric_name = "score"

    def look(self, trainer):
        self.losses.append(trainer.state.output["loss"].item())
        self.views({"image": torch.zeros(1, 1, 4, 4, 4)})


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.values(), other.values(), strict=True))


# Checkpoints


def test_a_resumed_run_is_the_run_that_was_never_stopped(tmp_path):
    straight = Run(tmp_path / "straight", max_epochs=4)
    Run(tmp_path / "stopped", max_epochs=2)
    resumed = Run(tmp_path / "stopped", max_epochs=4, resume="true")
    assert straight.trainer.state.iteration == resumed.trainer.state.iteration == 12
    assert resumed.trainer.state.epoch == 4
    assert resumed.losses == straight.losses[6:]
    assert same(resumed.network.state_dict(), straight.network.state_dict())
    assert resumed.optimizer.state_dict()["param_groups"] == straight.optimizer.state_dict()["param_groups"]
    assert resumed.schedule.get_last_lr() == straight.schedule.get_last_lr() != [0.1]
    for number, moments in straight.optimizer.state_dict()["state"].items():
        assert same(moments, resumed.optimizer.state_dict()["state"][number])
    assert same(resumed.views.state_dict(), straight.views.state_dict())


def test_other_processes_than_before_go_on_with_new_random_numbers(tmp_path, capsys):
    Run(tmp_path, max_epochs=1)
    file = tmp_path / "models" / "last.pt"
    content = torch.load(file, weights_only=True)
    weights.write(content | {"ranks": content["ranks"] * 2}, file)
    assert Run(tmp_path, max_epochs=2, resume=True).trainer.state.iteration == 6
    assert f"resume: 2 processes wrote {file}; random numbers begin anew" in capsys.readouterr().out


def test_the_checkpoints_of_an_earlier_run_are_not_overwritten(tmp_path):
    Run(tmp_path, max_epochs=1)
    before = (tmp_path / "models" / "last.pt").read_bytes()
    with pytest.raises(InputError, match=r"holds the last.pt of an earlier run; expected --resume=true"):
        Run(tmp_path, max_epochs=1)
    assert (tmp_path / "models" / "last.pt").read_bytes() == before


@pytest.mark.parametrize(("name", "value", "allowed"), [("model_size", "tiny", False), ("num_workers", 8, True)])
def test_a_resumed_run_keeps_its_settings(tmp_path, monkeypatch, name, value, allowed):
    monkeypatch.setitem(METADATA, "num_workers", 0)
    Run(tmp_path, max_epochs=1)
    monkeypatch.setitem(METADATA, name, value)
    if allowed:
        assert len(Run(tmp_path, max_epochs=2, resume=True).losses) == len(Noise()) // 2
    else:
        with pytest.raises(InputError, match="--model_size=tiny: the run to resume has micro; expected the same"):
            Run(tmp_path, max_epochs=2, resume=True)


def test_a_lengthened_run_follows_the_schedule_of_its_new_length(tmp_path):
    def schedule(length):
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        return WarmupCosineSchedule(optimizer, warmup_steps=2, t_total=length)

    short, straight = schedule(10), schedule(20)
    for _ in range(10):
        short.step()
        straight.step()
    engine = Engine(lambda *_: None)
    network = nn.Linear(1, 1)
    states = {"network": network.state_dict(), "trainer": engine.state_dict(), "lr_scheduler": short.state_dict()}
    last = tmp_path / "last.pt"
    weights.write(states | {"best": 0.0, "ranks": [], "metadata": {}}, last)
    resumed = schedule(20)
    Checkpoints(tmp_path, network, {"lr_scheduler": resumed}, {}, Engine(lambda *_: None), resume=True)._load(engine)
    resumed.step()
    straight.step()
    assert resumed.get_last_lr() == straight.get_last_lr()


def test_a_loss_that_is_not_finite_ends_the_training(tmp_path):
    engine = Engine(lambda _, batch: {"loss": torch.tensor(float("nan") if batch["subject"] == ["c"] else 1.0)})
    FiniteLoss().attach(engine)
    with pytest.raises(InputError, match="the loss is nan at iteration 3, subjects c; stopped"):
        engine.run([{"subject": ["a"]}, {"subject": ["b"]}, {"subject": ["c"]}])
    engine.run([{"subject": ["a"]}])


def test_a_run_that_was_finished_has_nothing_left(tmp_path):
    first = Run(tmp_path, max_epochs=2)
    resumed = Run(tmp_path, max_epochs=2, resume=True)
    assert resumed.losses == []
    assert same(first.network.state_dict(), resumed.network.state_dict())


def test_the_state_of_a_run_loads_without_unpickling(tmp_path):
    run = Run(tmp_path, max_epochs=2)
    content = torch.load(tmp_path / "models" / "last.pt", weights_only=True)
    assert set(content) == {"network", "trainer", "optimizer", "lr_scheduler", "best", "ranks", "metadata"}
    assert content["trainer"]["iteration"] == 6
    assert len(content["ranks"]) == 1
    assert content["metadata"] == METADATA | {"versions": weights.versions()}
    assert same(content["network"], run.network.state_dict())
    assert weights.read(tmp_path / "models" / "last.pt").metadata["modalities"] == ["T1"]


@pytest.mark.parametrize(
    ("scores", "lower_is_better", "best_epoch"),
    [
        ([0.5, 0.9, 0.7], False, 2),
        ([0.5, 0.9, 0.7], True, 1),
        ([0.9, 0.7, 0.5], True, 3),
        ([0.9, 0.7, 0.5], False, 1),
        ([0.7, 0.7, 0.7], False, 1),  # equal is not better
        ([0.0, -1.0, -0.5], False, 1),
        ([float("nan"), 0.2, 0.1], False, 2),
        ([0.3, float("nan"), 0.1], False, 1),
    ],
)
def test_the_best_network_is_kept(tmp_path, scores, lower_is_better, best_epoch):
    for epochs in range(1, 4):
        run = Run(tmp_path / str(epochs), epochs, scores[:epochs], lower_is_better=lower_is_better)
        state = {name: tensor.clone() for name, tensor in run.network.state_dict().items()}
        if epochs == best_epoch:
            expected = state
    best = weights.read(tmp_path / "3" / "models" / "model.pt")
    assert same(best.state, expected)
    assert best.metadata["reached"] == {"iteration": 3 * best_epoch, "score": scores[best_epoch - 1]}
    assert best.metadata["modalities"] == ["T1"]


def test_a_resumed_run_remembers_the_best(tmp_path):
    Run(tmp_path, 2, [0.9, 0.8])
    Run(tmp_path, 3, [0.85], resume=True)
    assert weights.read(tmp_path / "models" / "model.pt").metadata["reached"] == {"iteration": 3, "score": 0.9}
    Run(tmp_path, 4, [0.95], resume=True)
    assert weights.read(tmp_path / "models" / "model.pt").metadata["reached"] == {"iteration": 12, "score": 0.95}


def test_resuming_without_a_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"^--resume=true: no .*/models/last.pt to go on from; expected one that"):
        Run(tmp_path, 1, resume=True)
    with pytest.raises(InputError, match="--resume=maybe: expected true or false"):
        Run(tmp_path, 1, resume="maybe")


def test_only_the_main_process_writes(tmp_path):
    run = Run(tmp_path, 1, [0.5])
    for path in (tmp_path / "models").iterdir():
        path.unlink()
    run.checkpoints.main_process = False
    run.checkpoints.best = 0.1
    run.checkpoints._save_last(run.trainer)
    run.checkpoints._save_best(run.trainer)
    assert run.checkpoints.best == 0.5
    assert list((tmp_path / "models").iterdir()) == []


# Records


def record_of(folder):
    return json.loads((folder / "run.json").read_text())


def test_a_training_leaves_its_record(tmp_path):
    run = Run(tmp_path, 2, [0.25, 0.75])
    record = record_of(tmp_path)
    assert record["bundle"] == "toy"
    assert record["workflow"] == "train"
    assert record["finished"] is True
    assert record["world_size"] == 1
    assert record["config"] == METADATA
    assert record["train"]["iteration"] == [1, 2, 3, 4, 5, 6]
    assert record["train"]["loss"]["total"] == pytest.approx(run.losses, rel=1e-6, abs=1e-6)
    assert record["validation"] == {"iteration": [3, 6], "metrics": {"score": [0.25, 0.75]}}
    assert record["weights"]["source"] == "a.pt"
    assert record["weights"]["matched"] == 1
    assert record["weights"]["tensors"] == {"changed": [], "missing": [], "unexpected": []}
    assert record["versions"] == weights.versions()
    assert 0 <= record["seconds"] < 60
    assert record["peak_memory_gib"] > 0.1
    assert record["pictures"] == []
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["run.json"]


def test_losses_are_means_over_stretches_that_end_with_an_epoch(tmp_path, monkeypatch):
    monkeypatch.setattr(TrainingRecord, "POINTS", 3)
    run = Run(tmp_path, 2, [0.5, 0.5])
    record = record_of(tmp_path)
    assert record["train"]["iteration"] == [2, 3, 4, 6]
    stretches = [run.losses[0:2], run.losses[2:3], run.losses[3:4], run.losses[4:6]]
    means = [sum(stretch) / len(stretch) for stretch in stretches]
    assert record["train"]["loss"]["total"] == pytest.approx(means, rel=1e-6, abs=1e-6)


def test_a_metric_that_is_no_number_keeps_its_place_in_the_record(tmp_path):
    Run(tmp_path, 2, [float("nan"), 0.5])
    assert record_of(tmp_path)["validation"] == {"iteration": [3, 6], "metrics": {"score": [None, 0.5]}}


def test_a_run_that_is_stopped_leaves_an_unfinished_record(tmp_path):
    class Broken(Run):
        def look(self, trainer):
            if trainer.state.iteration == 5:
                raise KeyboardInterrupt
            super().look(trainer)

    with pytest.raises(KeyboardInterrupt):
        Broken(tmp_path, 3, [0.5, 0.5, 0.5])
    record = record_of(tmp_path)
    assert record["finished"] is False
    assert record["validation"]["iteration"] == [3]


def test_the_record_of_a_resumed_run_is_whole(tmp_path):
    first = Run(tmp_path, 2, [0.1, 0.2], record=True)
    before = record_of(tmp_path)
    second = Run(tmp_path, 3, [0.3], resume=True, record=True)
    record = record_of(tmp_path)
    assert record["train"]["iteration"] == list(range(1, 10))
    assert record["train"]["loss"]["total"] == pytest.approx(first.losses + second.losses, abs=1e-6)
    assert record["validation"] == {"iteration": [3, 6, 9], "metrics": {"score": [0.1, 0.2, 0.3]}}
    assert record["started"] == before["started"]
    assert record["finished"] is True


def test_a_record_is_written_by_the_main_process_alone(tmp_path):
    TrainingRecord(tmp_path / "a", METADATA, dict, Engine(print), weights.Report(None), main_process=False).write()
    assert not (tmp_path / "a").exists()


class Cases(Dataset):
    def __init__(self, count):
        drawn = np.random.default_rng(0).random((2, count, 3, 4, 4, 4)) < 0.4
        self.predictions, self.references = drawn

    def __len__(self):
        return len(self.predictions)

    def __getitem__(self, index):
        image, label = (torch.as_tensor(part[index]).float() for part in (self.predictions, self.references))
        return {"image": image, "label": label, "subject": f"case{index}"}


def test_an_evaluation_leaves_the_dice_of_each_case_and_region(tmp_path):
    cases = Cases(5)
    evaluator = SupervisedEvaluator(
        device=CPU,
        val_data_loader=DataLoader(cases, batch_size=2),
        network=nn.Identity(),
        key_val_metric={
            "dice": RegionDice(
                "brats2021", lambda output: tuple([item[k] for item in output] for k in ("pred", "label"))
            )
        },
        val_handlers=[EvaluationRecord(tmp_path, METADATA, "brats2021")],
    )
    evaluator.run()
    record = record_of(tmp_path)
    regions = ["TC", "WT", "ET"]
    expected = {
        f"case{number}": {
            region: dice(cases.predictions[number, channel], cases.references[number, channel])
            for channel, region in enumerate(regions)
        }
        for number in range(5)
    }
    assert record["workflow"] == "evaluate"
    assert record["finished"] is True
    assert record["scores"]["regions"] == regions
    assert list(record["scores"]["cases"]) == list(expected)
    for name, scores in expected.items():
        assert record["scores"]["cases"][name] == pytest.approx(scores, rel=1e-6, abs=1e-6)
    for region in regions:
        mean = np.mean([scores[region] for scores in expected.values()])
        assert record["scores"]["mean"][region] == pytest.approx(mean, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(
    "words",
    [
        ["python", "-m", "x", "--config_file=['a.yaml','b.yaml']"],
        ["a b", "c'd\"e", "$HOME", "`ls`", "back\\slash", "it's $5", "wow!'", ""],
        ["--lambda", "$@a + 'x'"],
    ],
)
def test_a_command_line_is_read_by_a_shell_as_it_was_given(words):
    shown = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {command_line(words)}"], capture_output=True, text=True, check=True
    )
    assert shown.stdout.split("\0")[:-1] == words


# Progress


def loop(length):
    return Engine(lambda *_: {"loss": torch.tensor(0.125)}), [0] * length


def test_progress_goes_to_standard_error(capsys):
    engine, data = loop(3)
    Progress("toy").attach(engine)
    engine.run(data, max_epochs=2)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "toy: 100%" in shown.err
    assert "6/6" in shown.err


def test_progress_of_a_resumed_run_begins_where_it_was(capsys):
    engine, data = loop(3)
    engine.load_state_dict({"epoch_length": 3, "max_epochs": 4, "iteration": 9})
    Progress("toy").attach(engine)
    engine.run(data)
    first = capsys.readouterr().err.strip().splitlines()[0].split("\r")[0]
    assert "toy:  75%" in first
    assert "9/12" in first


# Pictures


def draw(output, batch):
    figure = Figure(figsize=(1, 1))
    figure.subplots().imshow([[output, batch]])
    return {f"case{batch}": figure}


@pytest.mark.parametrize(("last_only", "names"), [(False, ["case1", "case2", "case3"]), (True, ["case3"])])
def test_pictures_are_drawn_into_files_and_events(tmp_path, last_only, names):
    engine = Engine(lambda _, batch: 10 * batch)
    Pictures(tmp_path, draw, last_only).attach(engine)
    engine.run([1, 2, 3])
    files = sorted((tmp_path / "pictures").iterdir())
    assert [path.name for path in files] == [f"{name}.png" for name in names]
    assert all(matplotlib.image.imread(path).shape == (110, 110, 4) for path in files)
    events = EventAccumulator(str(tmp_path / "tensorboard" / "pictures")).Reload()
    assert sorted(events.Tags()["images"]) == names


# Leaving the process group

LEAVING = """
import atexit, gc, sys, weakref
import torch, torch.distributed as dist
from common.handlers import leave_process_group
dist.init_process_group("gloo", init_method=f"file://{sys.argv[1]}", rank=0, world_size=1)
atexit.register(leave_process_group)
atexit.register(lambda: print("left" if dist.is_initialized() else "too early"))
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 2))
model(torch.ones(1, 2)).sum().backward()
gc.disable()
network, destroy = weakref.ref(model), dist.destroy_process_group
dist.destroy_process_group = lambda: (print("network", "alive" if network() else "gone"), destroy())
config = {"model": model}
config["self"] = config
del model, config
"""


def test_a_process_of_a_group_ends_well(tmp_path):
    command = [sys.executable, "-c", LEAVING, str(tmp_path / "store")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert (ended.returncode, ended.stdout) == (0, "left\nnetwork gone\n")
    assert "Traceback" not in ended.stderr
    assert "destroy_process_group() was not called" not in ended.stderr
