import os
import re
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Engine
from monai.optimizers import WarmupCosineSchedule
from torch import nn

from common.errors import InputError
from common.training.checkpoints import BestModel, RunStates, check_same_source
from common.training.resume import resumable
from common.training.signals import PREEMPTED, end_before_the_first_step, give_signals_back
from common.weights.formats import read
from common.weights.storage import versions, write
from tests.common.toy import METADATA, Training, dataset, plan_of, same
from tests.support import ROOT


def saved(folder):
    """The files of a run's checkpoints, but for the lock that a run which fails has until its process ends."""
    return sorted(path.name for path in (folder / "models").iterdir() if path.name != ".in_use")


def state(folder, iteration):
    content = torch.load(folder / "models" / f"iteration-{iteration:07d}.pt", weights_only=True)
    del content["record"]["seconds"], content["record"]["started"]
    return content


# Resuming


@pytest.mark.parametrize("stop", [3, 4, 6, 8])  # an epoch has three iterations
def test_a_resumed_run_is_the_run_that_was_never_stopped(tmp_path, stop):
    straight = Training(tmp_path / "straight", 4, save_interval=1, keep=20)
    killed = tmp_path / "killed" / "models"
    killed.mkdir(parents=True)
    name = f"iteration-{stop:07d}.pt"
    (killed / name).write_bytes((tmp_path / "straight" / "models" / name).read_bytes())
    resumed = Training(tmp_path / "killed", 4, resume=True, save_interval=1, keep=20)
    assert resumed.trainer.state.iteration == 12
    assert resumed.trainer.state.epoch == 4
    assert resumed.losses == straight.losses[stop:]
    assert resumed.drawn == straight.drawn[2 * stop :]
    assert resumed.seen == straight.seen[4 * stop :]
    assert same(state(tmp_path / "straight", 12), state(tmp_path / "killed", 12))
    assert len(set(straight.losses)) == 12


def test_what_is_compared_above_is_the_whole_state(tmp_path):
    run = Training(tmp_path, 2)
    content = torch.load(tmp_path / "models" / "iteration-0000006.pt", weights_only=True)
    shared = {"network", "trainer", "optimizer", "lr_scheduler", "step", "record"}
    assert set(content) == shared | {"best", "ranks", "metadata"}
    assert content["trainer"]["iteration"] == 6
    assert set(content["ranks"][0]) == {"random", "views"}
    assert set(content["ranks"][0]["random"]) == {"python", "numpy", "torch"}
    assert content["metadata"] == METADATA | {"versions": versions()}
    assert same(dict(content["network"]), dict(run.network.state_dict()))
    assert read(tmp_path / "models" / "iteration-0000006.pt").metadata["modalities"] == ["T1"]


def test_each_pass_shows_each_case_once(tmp_path):
    run = Training(tmp_path, 5)  # 15 steps of 4 are 12 passes over 5 cases
    passes = [run.seen[start : start + 5] for start in range(0, 60, 5)]
    assert all(sorted(one) == [case["subject"] for case in dataset().data] for one in passes)
    assert len({tuple(one) for one in passes}) > 6


def test_other_processes_than_before_go_on_with_new_random_numbers(tmp_path, capsys):
    Training(tmp_path, 1)
    file = tmp_path / "models" / "iteration-0000003.pt"
    content = torch.load(file, weights_only=True)
    write(content | {"ranks": content["ranks"] * 2}, file)
    assert Training(tmp_path, 2, resume=True).trainer.state.iteration == 6
    assert f"resume: 2 processes wrote {file}; random numbers start anew" in capsys.readouterr().out


BEFORE = {
    "model_size": "micro",
    "amp": False,
    "patch_size": [64, 64, 64],
    "num_workers": 0,
    "cohort": "a",
    "subjects": "x",
}


def stopped(folder, settings=BEFORE):
    file = folder / "iteration-0000003.pt"
    write({"metadata": settings}, file)
    return file


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"num_workers": 8, "cohort": "b", "iterations": 9, "epochs": 1.5},
        {"amp": "false", "patch_size": (64, 64, 64)},
        {"keep": 3},
    ],
)
def test_a_resumed_run_may_change_what_does_not_make_its_result(tmp_path, changed):
    stopped(tmp_path)
    assert resumable(tmp_path, True, BEFORE | changed) == tmp_path / "iteration-0000003.pt"


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"model_size": "tiny"}, "model_size=tiny: the run to resume has micro; expected the same"),
        ({"amp": "bf16"}, "amp=bf16: the run to resume has False; expected the same"),
        ({"subjects": "y", "datalist": "b.json"}, "datalist=b.json: other subjects, or in other splits, than"),
    ],
)
def test_a_resumed_run_keeps_what_makes_its_result(tmp_path, changed, line):
    stopped(tmp_path)
    for resume in (True, "auto"):
        with pytest.raises(InputError) as error:
            resumable(tmp_path, resume, BEFORE | changed)
        assert str(error.value).startswith(line)


def test_a_changed_recipe_is_named_before_what_it_stands_for(tmp_path):
    stopped(tmp_path, {"learning_rate": 1.0, "recipe": "text"})
    with pytest.raises(InputError, match=r"^recipe=table: the run to resume has text"):
        resumable(tmp_path, True, {"learning_rate": 2.0, "recipe": "table"})


def test_a_run_is_not_resumed_with_another_loss_or_optimiser(tmp_path):
    def settings(loss, rate):
        components = {"loss": {"_target_": loss}, "optimizer": {"_target_": "AdamW", "lr": rate}}
        return {"learning_rate": rate, "components": components}

    file = stopped(tmp_path, settings("DiceLoss", 1.0))
    assert resumable(tmp_path, True, settings("DiceLoss", 1.0)) == file
    with pytest.raises(InputError) as error:
        resumable(tmp_path, True, settings("DiceFocalLoss", 1.0))
    both = "loss is {'_target_': 'DiceFocalLoss'}; the run to resume has {'_target_': 'DiceLoss'}"
    assert str(error.value) == f"resume: {both}; expected the same"
    with pytest.raises(InputError, match=r"^learning_rate=2.0: the run to resume has 1.0"):
        resumable(tmp_path, True, settings("DiceLoss", 2.0))
    stopped(tmp_path, {"learning_rate": 1.0})  # of a release that did not record them
    assert resumable(tmp_path, True, settings("DiceFocalLoss", 1.0)) == file


def test_a_damaged_state_is_named_with_the_one_before(tmp_path):
    stopped(tmp_path)
    (tmp_path / "iteration-0000005.pt").write_bytes(b"damaged")
    with pytest.raises(
        InputError, match=r"iteration-0000005.pt.*; without it, the run continues from iteration-0000003.pt"
    ):
        resumable(tmp_path, True, BEFORE)


def test_auto_goes_on_from_the_last_state_that_is_whole(tmp_path, capsys):
    file = stopped(tmp_path)
    for number in (5, 7):
        (tmp_path / f"iteration-000000{number}.pt").write_bytes(b"damaged")
    assert resumable(tmp_path, "auto", BEFORE) == file
    lines = capsys.readouterr().err.splitlines()
    assert [line.rpartition("; ")[2] for line in lines] == [
        "trying iteration-0000005.pt",
        "trying iteration-0000003.pt",
    ]
    assert "iteration-0000007.pt: cannot be read as tensors alone" in lines[0]
    file.write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"iteration-0000003.pt: cannot be read"):  # rather than starting anew
        resumable(tmp_path, "auto", BEFORE)


def test_a_file_of_another_network_is_refused(tmp_path):
    Training(tmp_path, 1)
    with pytest.raises(InputError, match=r"iteration-0000003.pt: cannot be resumed by a run of this network"):
        Training(tmp_path, 2, resume=True, network=nn.Linear(4, 1))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("best", None),  # None: it is missing
        ("ranks", None),
        ("ranks", 3),
        ("ranks", [7]),
        ("ranks", [{}]),
        ("ranks", [{"random": {"python": 1}}]),
        ("trainer", None),
        ("trainer", {}),
        ("trainer", {"iteration": "three", "epoch_length": 3, "max_epochs": 2}),
        ("trainer", {"iteration": -3, "epoch_length": 3, "max_epochs": 2}),
        ("optimizer", {"state": 1}),
        ("network", [1]),
        ("lr_scheduler", "x"),
    ],
)
def test_a_doctored_state_is_refused(tmp_path, key, value):
    Training(tmp_path, 1)
    file = tmp_path / "models/iteration-0000003.pt"
    content = torch.load(file, weights_only=True)
    content |= {key: value}
    if value is None:
        del content[key]
    torch.save(content, file)
    with pytest.raises(InputError, match=r"iteration-0000003.pt: cannot be resumed by a run of this network") as error:
        Training(tmp_path, 2, resume=True)
    assert "\n" not in str(error.value)


def test_a_run_is_not_resumed_beyond_its_end(tmp_path):
    Training(tmp_path, 2)
    with pytest.raises(
        InputError, match=r"^iterations=2 epochs: .*iteration-0000006.pt has reached iteration 6 already"
    ):
        Training(tmp_path, 1, resume=True)


def test_a_run_that_was_finished_has_nothing_left(tmp_path):
    first = Training(tmp_path, 2)
    resumed = Training(tmp_path, 2, resume=True)
    assert resumed.losses == []
    assert same(dict(first.network.state_dict()), dict(resumed.network.state_dict()))


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
def test_a_lengthened_run_follows_the_schedule_of_its_new_length(tmp_path):
    def schedule(length):
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        return WarmupCosineSchedule(optimizer, warmup_steps=2, t_total=length)

    short, straight = schedule(10), schedule(20)
    for _ in range(10):
        short.step()
        straight.step()
    engine = Engine(lambda *_: None)
    engine.state.max_epochs, engine.state.epoch_length = 1, 20
    network = nn.Linear(1, 1)
    states = {"network": network.state_dict(), "trainer": engine.state_dict(), "lr_scheduler": short.state_dict()}
    file = tmp_path / "iteration-0000010.pt"
    write(states | {"best": 0.0, "ranks": [], "metadata": {}}, file)
    resumed = schedule(20)

    class Nothing:
        def begin_after(self, iteration):
            pass

    validator = Engine(lambda *_: None)
    objects = {"network": network, "lr_scheduler": resumed}
    RunStates(plan_of(tmp_path, settings={}), objects, Nothing(), validator).load(engine, file)
    for _ in range(2):
        assert resumed.get_last_lr() == straight.get_last_lr() == [resumed.optimizer.param_groups[0]["lr"]]
        resumed.step()
        straight.step()


@pytest.mark.parametrize("iterations", [[3, -1], [3, 6], [-1, 3, 3]])
def test_processes_that_see_different_states_do_not_begin(iterations):
    with pytest.raises(
        InputError, match=rf"^resume: the processes see the states of iterations {re.escape(str(iterations))}"
    ):
        check_same_source(iterations)
    check_same_source([3, 3])


# Which file


def test_the_last_file_is_resumed(tmp_path):
    for number in (20, 100, 9):
        (tmp_path / f"iteration-{number:07d}.pt").touch()
    write({"metadata": {}}, tmp_path / "iteration-12345678.pt")  # longer than most
    (tmp_path / ".iteration-9999999.pt.4711").touch()  # half written
    (tmp_path / "iteration-x.pt").touch()
    (tmp_path / "model.pt").touch()
    for word in (True, True, "auto"):
        assert resumable(tmp_path, word) == tmp_path / "iteration-12345678.pt"


def test_auto_starts_where_there_is_nothing_to_resume(tmp_path):
    assert resumable(tmp_path / "nowhere", "auto") is None
    assert resumable(tmp_path, False) is None


def test_resuming_without_a_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"^resume=true: no iteration-N.pt in .*; expected one that a run has left"):
        resumable(tmp_path, True)


def test_a_network_of_an_earlier_run_is_not_overwritten(tmp_path):
    (tmp_path / "model.pt").touch()
    with pytest.raises(
        InputError, match=r"^ckpt_dir=.*: holds the model.pt of an earlier run; expected another folder"
    ):
        resumable(tmp_path, False)
    assert resumable(tmp_path, "auto") is None  # as after a kill before anything could be saved


def test_the_states_of_an_earlier_run_are_not_overwritten(tmp_path):
    Training(tmp_path, 1)
    before = (tmp_path / "models" / "iteration-0000003.pt").read_bytes()
    with pytest.raises(InputError, match=r"holds the iteration-0000003.pt of an earlier run; expected resume=true"):
        Training(tmp_path, 1)
    assert (tmp_path / "models" / "iteration-0000003.pt").read_bytes() == before


# Saving


def test_what_a_killed_run_left_half_written_is_removed(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / ".iteration-0000009.pt.4711").touch()
    Training(tmp_path, 1)
    assert saved(tmp_path) == ["iteration-0000003.pt", "model.pt"]


@pytest.mark.parametrize(
    ("save_interval", "keep", "names"),
    [(1, 2, [8, 9]), (4, 9, [3, 4, 6, 8, 9]), (3, 2, [6, 9]), (100, 2, [6, 9]), (5, 1, [9])],
)
def test_states_are_saved_in_their_interval_and_the_last_ones_kept(tmp_path, save_interval, keep, names):
    Training(tmp_path, 3, save_interval=save_interval, keep=keep)
    assert saved(tmp_path) == [f"iteration-{number:07d}.pt" for number in names] + ["model.pt"]


def test_a_network_that_is_not_finite_is_not_saved(tmp_path):
    network = nn.Linear(4, 1)

    def spoil():
        network.bias.data.fill_(torch.nan)

    with pytest.raises(InputError, match=r"iteration-0000002.pt: not written, as 1 tensors are not finite, first bias"):
        Training(tmp_path, 2, save_interval=1, at_completion=(2, spoil), network=network)
    assert saved(tmp_path) == ["iteration-0000001.pt"]


def test_the_best_network_is_not_overwritten_by_one_that_is_not_finite(tmp_path):
    network = nn.Linear(4, 1)

    def spoil():
        network.bias.data.fill_(torch.nan)

    with pytest.raises(InputError, match=r"model.pt: not written, as 1 tensors are not finite, first bias"):
        Training(tmp_path, 2, [0.1, 0.9], at_completion=(6, spoil), network=network)
    assert read(tmp_path / "models" / "model.pt").metadata["reached"] == {"iteration": 3, "score": 0.1}


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
        run = Training(tmp_path / str(epochs), epochs, scores[:epochs], lower_is_better=lower_is_better)
        if epochs == best_epoch:
            expected = {name: tensor.clone() for name, tensor in run.network.state_dict().items()}
    best = read(tmp_path / "3" / "models" / "model.pt")
    assert same(best.state, expected)
    assert best.metadata["reached"] == {"iteration": 3 * best_epoch, "score": scores[best_epoch - 1]}
    assert best.metadata["modalities"] == ["T1"]


def test_a_metric_other_than_the_key_metric_may_choose(tmp_path):
    """As the public code chooses by the reconstruction (DIFF-26)."""
    validator = Engine(lambda *_: None)
    trainer = SimpleNamespace(state=SimpleNamespace(iteration=0))
    network = nn.Linear(1, 1)
    best = BestModel(plan_of(tmp_path), network, validator, lower_is_better=True, metric="reconstruction")
    validator.state.key_metric_name = "total"
    reached = []
    for total, reconstruction in [(3.0, 0.5), (2.0, 0.6), (4.0, 0.4)]:
        trainer.state.iteration += 1
        validator.state.metrics = {"total": total, "reconstruction": reconstruction}
        best.save(trainer)
        reached.append(read(tmp_path / "models" / "model.pt").metadata["reached"])
    first, last = {"iteration": 1, "reconstruction": 0.5}, {"iteration": 3, "reconstruction": 0.4}
    assert reached == [first, first, last]


def test_a_resumed_run_remembers_the_best(tmp_path):
    Training(tmp_path, 2, [0.9, 0.8])
    Training(tmp_path, 3, [0.85], resume=True)
    assert read(tmp_path / "models" / "model.pt").metadata["reached"] == {"iteration": 3, "score": 0.9}
    Training(tmp_path, 4, [0.95], resume=True)
    assert read(tmp_path / "models" / "model.pt").metadata["reached"] == {"iteration": 12, "score": 0.95}


def test_only_the_main_process_writes(tmp_path, monkeypatch):
    run = Training(tmp_path, 1, [0.5])
    for path in (tmp_path / "models").iterdir():
        path.unlink()
    monkeypatch.setattr("ignite.distributed.get_rank", lambda: 1)
    run.best.best = 0.1
    run.best.save(run.trainer)
    run.states.save(run.trainer)
    assert run.best.best == 0.5
    assert list((tmp_path / "models").iterdir()) == []


# Signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_ends_the_run_after_its_iteration_with_a_status_of_its_own(tmp_path, capsys, number):
    straight = Training(tmp_path / "straight", 3)
    with pytest.raises(SystemExit) as ended:
        Training(tmp_path / "told", 3, save_interval=100, at_iteration=(5, lambda: os.kill(os.getpid(), number)))
    assert ended.value.code == PREEMPTED == os.EX_TEMPFAIL
    assert saved(tmp_path / "told") == ["iteration-0000003.pt", "iteration-0000005.pt", "model.pt"]
    assert f"{number.name}: saved {tmp_path}/told/models/iteration-0000005.pt; resume=true" in capsys.readouterr().out
    resumed = Training(tmp_path / "told", 3, resume="auto", save_interval=100)
    assert resumed.losses == straight.losses[5:]


def test_a_signal_in_the_last_iteration_changes_nothing(tmp_path):
    run = Training(tmp_path, 1, at_iteration=(3, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    assert run.trainer.state.iteration == 3


def test_a_second_ctrl_c_ends_the_run_at_once(tmp_path):
    def press():
        os.kill(os.getpid(), signal.SIGINT)

    def press_twice():
        press()
        press()

    with pytest.raises(KeyboardInterrupt):
        Training(tmp_path, 2, at_iteration=(5, press_twice))
    assert saved(tmp_path) == ["iteration-0000003.pt", "model.pt"]


def test_signals_are_given_back_when_the_run_has_ended(tmp_path):
    give_signals_back()  # of a plan in another test
    before = [signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGTERM)]
    end_before_the_first_step()
    Training(tmp_path, 1)
    assert [signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGTERM)] == before


FILLING = """
import time
from common.data.datasets import CaseDataset
from common.errors import report_in_one_line
from common.training.signals import end_before_the_first_step
from monai.transforms import Compose, Lambdad
report_in_one_line()
end_before_the_first_step()
read = Lambdad("image", lambda _: [print("reading", flush=True), *(time.sleep(0.1) for _ in range(6000))])
CaseDataset([{"subject": "1", "image": "file"}], Compose([read]), cache_rate=1.0)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_while_the_caches_fill_ends_the_run_with_a_line(number):
    with subprocess.Popen([sys.executable, "-c", FILLING], cwd=ROOT, stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout.readline() == "reading\n"
        process.send_signal(number)
        told, errors = process.communicate(timeout=300)
    assert process.returncode == PREEMPTED
    assert told == f"\n{number.name}: ended before the first step, nothing to save; status {PREEMPTED}\n"
    assert [line for line in errors.splitlines() if line.strip() and not line.startswith("cache: ")] == []


def test_a_trainer_that_starts_again_saves_once(tmp_path, monkeypatch):
    """As that of a federated client in each round."""
    run = Training(tmp_path, 1)
    saved = []
    monkeypatch.setattr(RunStates, "save", lambda self, trainer: saved.append(trainer.state.iteration))
    run.trainer.state.max_epochs = 2
    run.trainer.run()
    run.trainer.state.max_epochs = 3
    run.trainer.run()
    assert saved == [6, 9]
