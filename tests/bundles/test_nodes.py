"""Trainings on two processes or two nodes (torchrun agents): killed or stopped by a signal, then resumed."""

import json
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from common.training.states import PREEMPTED
from scripts.quickstart import ENVIRONMENT
from tests.common import toy
from tests.support import ROOT, TINY

BUNDLE = "ukb_ssl_pretrain"
LENGTH = ["--iterations=6", "--val_interval=6", "--save_interval=2"]
OPTIONS = [*LENGTH, "--crops_per_volume=2", "--gather_negatives=true"]
TWO = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]


@pytest.fixture(scope="module")
def start(cohorts):
    """Function: start a training of ukb_ssl_pretrain in its own process group, which ends with the module's tests.

    `launcher` is the list of Python's arguments before `-m monai.bundle`, or a shell command from the documents.
    """
    started = []

    def start(folder, launcher, *options, **environment):
        data = [f"--dataset_dir={cohorts / 'ukb'}", f"--datalist={cohorts / 'ukb'}.json"]
        places = [f"--output_dir={folder}", f"--ckpt_dir={folder / 'models'}"]
        overlay = "['configs/train.yaml','configs/multi_gpu_train.yaml']" if launcher else "configs/train.yaml"
        program = [sys.executable, *launcher, "-m", "monai.bundle", "run", f"--config_file={overlay}"]
        if isinstance(launcher, str):
            program = ["bash", "-c", f'{launcher.rstrip()} "$@"', "bash"]
        environment |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
        with folder.with_suffix(".log").open("a") as log:
            process = subprocess.Popen(
                [*program, *data, *places, *TINY, *options],
                cwd=ROOT if isinstance(launcher, str) else ROOT / "bundles" / BUNDLE,
                env=os.environ | ENVIRONMENT | {"UKB": str(cohorts / "ukb"), "FIRST": "127.0.0.1"} | environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def finish(folder, *processes):
    for process in processes:
        assert process.wait(timeout=600) == 0, folder.with_suffix(".log").read_text()


def wait_for(file, process):
    while not file.exists():
        assert process.poll() is None, file.parents[1].with_suffix(".log").read_text()
        time.sleep(0.05)


def state(folder):
    """The last state of a run, without times."""
    return toy.state_of(folder / "models/iteration-0000006.pt")


def documented(program, replaced):
    """The only command of docs/how-to/use-many-gpus.md with the text `program`, with smaller values."""
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "docs/how-to/use-many-gpus.md").read_text(), re.DOTALL)
    (command,) = [block for block in blocks if program in block]
    for large, small in replaced.items():
        assert command.count(large) == 1
        command = command.replace(large, small)
    return command


# One run in three ways: straight on, on two nodes, killed and resumed


@pytest.fixture(scope="module")
def straight(start, tmp_path_factory):
    """A training of six steps on two processes of one node, by the command of docs/how-to/use-many-gpus.md."""
    folder = tmp_path_factory.mktemp("nodes") / "straight"
    finish(folder, start(folder, documented("--standalone", {"nproc_per_node=8": "nproc_per_node=2"}), *OPTIONS))
    return folder


@pytest.mark.slow
def test_two_nodes_train_what_two_processes_of_one_node_train(start, straight, tmp_path):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
    agent = documented("--nnodes", {"nnodes=8": "nnodes=2", "nproc_per_node=8": "nproc_per_node=1", "29500": port})
    folder = tmp_path / "nodes"
    finish(folder, *(start(folder, agent, *OPTIONS, NODE=str(node)) for node in range(2)))
    assert toy.same(state(folder), state(straight))
    record = json.loads((folder / "run.json").read_text())
    assert (record["world_size"], record["finished"]) == (2, True)
    ranks = state(folder)["ranks"]
    assert not torch.equal(ranks[0]["random"]["torch"], ranks[1]["random"]["torch"]), "each draws numbers of its own"
    network = torch.load(folder / "models/model.pt", weights_only=True)["network"]
    assert not any(key.startswith("module.") for key in network)
    models = sorted(path.name for path in (folder / "models").iterdir())
    assert models == ["iteration-0000004.pt", "iteration-0000006.pt", "model.pt"]
    assert len(list(folder.glob("tensorboard/train/*"))) == 1, "one rank writes"
    assert folder.with_suffix(".log").read_text().count("weights: from scratch") == 1, "one rank speaks"


# Told to end


@pytest.mark.slow
def test_a_torchrun_that_is_told_saves_and_goes_on_with_other_processes(start, tmp_path):
    """The agent forwards the signal, and exits with status 1: docs/reference/training.md."""
    options, folder = [*LENGTH, "--global_batch_size=4"], tmp_path / "told"
    run = start(folder, [*TWO, "--signals-to-handle=SIGTERM,SIGUSR1"], *options)
    wait_for(folder / "models/iteration-0000002.pt", run)
    run.send_signal(signal.SIGUSR1)
    assert run.wait(timeout=600) == 1
    log = folder.with_suffix(".log")
    assert f"SIGUSR1: saved {folder}/models/iteration-" in log.read_text()
    assert f"status {PREEMPTED}" in log.read_text()

    finish(folder, start(folder, [], *options, "--resume=true"))
    assert ": saved with WORLD_SIZE=2, now 1; " in log.read_text()
    assert len(state(folder)["ranks"]) == 1


def test_a_signal_to_the_processes_that_read_data_does_not_end_them(tmp_path, monkeypatch):
    """SLURM signals every process of a run; without its data workers, a run could not finish its iteration."""

    def signal_all():
        processes = [*multiprocessing.active_children(), multiprocessing.current_process()]
        assert len(processes) == 3
        pids = [str(process.pid) for process in processes]
        subprocess.run(["kill", *pids], check=True)  # a process of its own: workers obey the one that they read for

    monkeypatch.setattr(toy, "DataLoader", partial(toy.DataLoader, num_workers=2))
    with pytest.raises(SystemExit) as ended:
        toy.Training(tmp_path, 20, save_interval=100, at_iteration=(5, signal_all))
    assert ended.value.code == PREEMPTED
    assert (tmp_path / "models/iteration-0000005.pt").is_file()
