"""Exact resume, which state a run continues from, the best network, and signals."""

import os
import signal
from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Engine
from monai.optimizers import WarmupCosineSchedule
from torch import nn

from common.training.handlers import PREEMPTED, RunStates
from common.training.plan import resumable
from common.values import OFF
from common.weights.checkpoints import read, write
from tests.common.toy import Training, plan_of, same, state_of
from tests.support import refused


def saved(folder):
    """The files of a run's checkpoints, without the lock of a failed run."""
    return sorted(path.name for path in (folder / "models").iterdir() if path.name != ".in_use")


def state(folder, iteration):
    return state_of(folder / "models" / f"iteration-{iteration:07d}.pt")


def reached(folder):
    return read(folder / "models" / "model.pt").metadata["reached"]


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A run of four epochs with three iterations each, with all states saved, and its folder."""
    folder = tmp_path_factory.mktemp("straight")
    return Training(folder, 4, [0.5], save_interval=1, keep=20), folder


@pytest.fixture
def stop_at(tmp_path, straight):
    """A function that copies a state of the `straight` run to `tmp_path`, as if the run had been killed there."""

    def stop_at(iteration):
        (tmp_path / "models").mkdir()
        name = f"models/iteration-{iteration:07d}.pt"
        (tmp_path / name).write_bytes((straight[1] / name).read_bytes())
        return tmp_path / name

    return stop_at


# Resuming


@pytest.mark.parametrize("stop", [3, 4, 12])
def test_a_resumed_run_is_the_run_that_was_never_stopped(tmp_path, straight, stop_at, stop):
    run, folder = straight
    stop_at(stop)
    resumed = Training(tmp_path, 4, resume=True, save_interval=1, keep=20)
    assert (resumed.trainer.state.iteration, resumed.trainer.state.epoch) == (12, 4)
    assert (resumed.losses, resumed.drawn) == (run.losses[stop:], run.drawn[2 * stop :])
    assert resumed.seen == run.seen[4 * stop :]
    assert same(state(folder, 12), state(tmp_path, 12))
    assert same(dict(run.network.state_dict()), dict(resumed.network.state_dict()))
    assert len(set(run.losses)) == 12


COMPONENTS = {"loss": {"_target_": "DiceLoss"}, "optimizer": {"_target_": "AdamW", "lr": 1.0, "weight_decay": 0.1}}
BEFORE = {"bundle": "toy", "amp": False, "num_workers": 0, "learning_rate": 1.0, "subjects": "x"}
BEFORE |= {"components": COMPONENTS}
FOCAL = {"_target_": "DiceFocalLoss"}


@pytest.fixture
def stopped(tmp_path):
    file = tmp_path / "iteration-0000003.pt"
    write({"metadata": BEFORE | {"frozen_iterations": 0}}, file)  # once an option
    return file


def test_a_resumed_run_may_change_what_does_not_make_its_result(tmp_path, stopped):
    changed = {"num_workers": 8, "cohort": "b", "iterations": 9, "epochs": 1.5, "keep": 3}
    assert resumable(tmp_path, True, BEFORE | changed | OFF) == stopped


@pytest.mark.parametrize(
    ("changed", "name", "value"),
    [
        ({"modality_dropout": 0.5}, "modality_dropout", 0.5),
        ({"crop_foreground": False}, "crop_foreground", False),  # the saved run lacks it; nobody knows its value
        ({"subjects": "y", "datalist": "b.json"}, "datalist", "b.json"),
        ({"components": COMPONENTS | {"loss": FOCAL}}, "loss", FOCAL),
    ],
)
def test_a_resumed_run_keeps_what_makes_its_result(tmp_path, stopped, changed, name, value):
    with refused(name, value):
        resumable(tmp_path, "auto", BEFORE | changed)


def test_a_file_of_a_longer_run_is_refused(tmp_path, stop_at):
    file = stop_at(12)
    with refused("iterations", "2 epochs", f"{file} has reached iteration 12"):
        Training(tmp_path, 3, resume=True)


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
def test_a_resumed_run_follows_the_schedule_of_its_own_length(tmp_path):
    def schedule(length):
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        return WarmupCosineSchedule(optimizer, warmup_steps=2, t_total=length)

    short, straight, resumed = schedule(10), schedule(20), schedule(20)
    for _ in range(6):
        short.step()
        straight.step()
    engine, network = Engine(lambda *_: None), nn.Linear(1, 1)
    engine.state.max_epochs, engine.state.epoch_length, engine.state.iteration = 1, 20, 6
    states = {"network": network, "trainer": engine, "optimizer": short.optimizer, "lr_scheduler": short}
    states = {name: item.state_dict() for name, item in states.items()}
    write(states | {"ranks": []}, tmp_path / "iteration-0000006.pt")
    objects = {"network": network, "optimizer": resumed.optimizer, "lr_scheduler": resumed}
    steps = SimpleNamespace(begin_after=lambda iteration: None)
    RunStates(plan_of(tmp_path), objects, steps, Engine(print), {}).load(engine, tmp_path / "iteration-0000006.pt")
    for _ in range(2):
        assert resumed.get_last_lr() == straight.get_last_lr() == [resumed.optimizer.param_groups[0]["lr"]]
        resumed.step()
        straight.step()


def test_the_last_file_is_resumed_and_a_folder_without_one_is_for_new_runs(tmp_path):
    assert resumable(tmp_path / "nowhere", "auto", BEFORE) is resumable(tmp_path, False, BEFORE) is None
    with refused("resume"):
        resumable(tmp_path, True, BEFORE)
    (tmp_path / "model.pt").write_text("best")
    with refused("ckpt_dir", tmp_path, "model.pt"):
        resumable(tmp_path, False, BEFORE)
    assert resumable(tmp_path, "auto", BEFORE) is None  # as after a kill before a state could be saved
    for name in ("iteration-0000100.pt", "iteration-x.pt", ".iteration-9999999.pt.4711.part"):  # the last: half written
        (tmp_path / name).touch()
    write({"metadata": BEFORE}, tmp_path / "iteration-12345678.pt")  # longer than most
    assert resumable(tmp_path, True, BEFORE) == tmp_path / "iteration-12345678.pt"


# Saving


@pytest.mark.parametrize(("save_interval", "keep", "names"), [(1, 2, [8, 9]), (4, 9, [3, 4, 6, 8, 9])])
def test_states_are_saved_in_their_interval_and_the_last_ones_kept(tmp_path, save_interval, keep, names):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / ".iteration-0000009.pt.4711.part").touch()  # half written by a run that was killed
    Training(tmp_path, 3, save_interval=save_interval, keep=keep)
    assert saved(tmp_path) == [f"iteration-{number:07d}.pt" for number in names] + ["model.pt"]


def test_a_network_that_is_not_finite_is_not_saved(tmp_path):
    network = nn.Linear(4, 1)
    at_completion = (6, lambda: network.bias.data.fill_(torch.nan))
    with refused(tmp_path / "models/model.pt", text="tensors with NaN or infinity: 1, first bias"):
        Training(tmp_path, 2, [0.1, 0.9], at_completion=at_completion, network=network)
    assert reached(tmp_path)["iteration"] == 3


@pytest.mark.parametrize(
    ("scores", "lower_is_better", "best_epoch"),
    [
        ([0.5, 0.9, 0.7], False, 2),
        ([0.9, 0.7, 0.8], True, 2),
        ([float("nan"), 0.2, 0.2], False, 2),  # equal is not better
    ],
)
def test_the_best_network_is_kept(tmp_path, straight, scores, lower_is_better, best_epoch):
    Training(tmp_path, 3, scores, lower_is_better=lower_is_better)
    expected = state(straight[1], 3 * best_epoch)["network"]
    assert same(read(tmp_path / "models" / "model.pt").state, dict(expected))
    assert reached(tmp_path) == {"iteration": 3 * best_epoch, "score": scores[best_epoch - 1]}


def test_a_resumed_run_remembers_the_best_and_a_new_run_moves_it_aside(tmp_path):
    for epochs, scores, best in ((2, [0.9, 0.8], (3, 0.9)), (3, [0.85], (3, 0.9)), (4, [0.95], (12, 0.95))):
        Training(tmp_path, epochs, scores, resume="auto")
        assert reached(tmp_path) == {"iteration": best[0], "score": best[1]}
    for file in (tmp_path / "models").glob("iteration-*.pt"):
        file.unlink()
    Training(tmp_path, 1, resume="auto")
    for pattern in ("models/model-*.pt", "run-*.json", "tensorboard-*"):
        assert len(list(tmp_path.glob(pattern))) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_ends_the_run_after_its_iteration_with_a_status_of_its_own(tmp_path, straight, capsys, number):
    with pytest.raises(SystemExit) as ended:
        Training(tmp_path, 4, [0.5], save_interval=100, at_iteration=(5, lambda: os.kill(os.getpid(), number)))
    assert ended.value.code == PREEMPTED == os.EX_TEMPFAIL
    assert saved(tmp_path) == ["iteration-0000003.pt", "iteration-0000005.pt", "model.pt"]
    assert f"{number.name}: saved {tmp_path}/models/iteration-0000005.pt; resume=true" in capsys.readouterr().out
    assert Training(tmp_path, 4, resume="auto", save_interval=100).losses == straight[0].losses[5:]
