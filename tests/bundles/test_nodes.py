"""Trainings on two processes and two nodes, that are killed or told to end, and go on; a node is a torchrun agent."""

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

import ignite.distributed as idist
import pytest
import torch
import torch.distributed as dist

from common.training import checkpoints
from common.training.signals import PREEMPTED
from scripts.quickstart import ENVIRONMENT
from tests import warm
from tests.bundles.workflows import untrained
from tests.common import toy
from tests.support import ROOT, TINY, children

BUNDLE = "ukb_ssl_pretrain"
LENGTH = ["--iterations=6", "--val_interval=6", "--save_interval=2"]
OPTIONS = [*LENGTH, "--crops_per_volume=2", "--gather_negatives=true"]
TWO = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]


@pytest.fixture(scope="module")
def start(cohorts):
    """Starts a training of ukb_ssl_pretrain into a folder, in a process group of its own; none outlives the module.

    Python starts it with these words before `-m monai.bundle`; a text is a command of a document instead.
    """
    started = []

    def start(folder, launcher, *options, python=None, **environment):
        data = [f"--dataset_dir={cohorts / 'ukb'}", f"--datalist={cohorts / 'ukb'}.json"]
        places = [f"--output_dir={folder}", f"--ckpt_dir={folder / 'models'}"]
        overlay = "['configs/train.yaml','configs/multi_gpu_train.yaml']" if launcher else "configs/train.yaml"
        program = [python or warm.python(), *launcher, "-m", "monai.bundle", "run", f"--config_file={overlay}"]
        if isinstance(launcher, str):
            program = ["bash", "-c", f'{launcher.rstrip()} "$@"', "bash"]
        environment |= {"PATH": f"{Path(warm.python()).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
        with folder.with_suffix(".log").open("a") as log:
            process = subprocess.Popen(
                [*program, *data, *places, *TINY, *options],
                cwd=ROOT if isinstance(launcher, str) else ROOT / "bundles" / BUNDLE,
                env=os.environ | ENVIRONMENT | {"UKB": "", "FIRST": "127.0.0.1"} | environment,
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
    """What a run has left of itself at its end, without its times."""
    content = torch.load(folder / "models/iteration-0000006.pt", weights_only=True)
    del content["record"]["seconds"], content["record"]["started"]
    return content


def documented(program, replaced):
    """The one command of docs/scale.md that has these words, with others in place of those that are too large here."""
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "docs/scale.md").read_text(), re.DOTALL)
    (command,) = [block for block in blocks if program in block]
    for large, small in replaced.items():
        assert command.count(large) == 1
        command = command.replace(large, small)
    return command


def check_one_network(folder, last):
    """Two processes have trained one network, with random numbers of their own, and one of them has written."""
    record = json.loads((folder / "run.json").read_text())
    assert (record["world_size"], record["finished"]) == (2, True)
    for name in ("model.pt", last):
        network = torch.load(folder / "models" / name, weights_only=True)["network"]
        assert not any(key.startswith("module.") for key in network)
    ranks = torch.load(folder / "models" / last, weights_only=True)["ranks"]
    assert len(ranks) == 2
    assert not torch.equal(ranks[0]["random"]["torch"], ranks[1]["random"]["torch"])
    assert len(list(folder.glob("tensorboard/train/*"))) == 1
    assert (folder / "progress.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_two_processes_train_one_network(run_bundle, tmp_path):
    result = run_bundle("atlas_finetune", *TINY, "--architecture=transbts", processes=2)
    assert result.returncode == 0, result.stdout + result.stderr
    check_one_network(tmp_path / "atlas_finetune", "iteration-0000001.pt")
    assert result.stdout.count("curves       ") == 1


@pytest.mark.slow
def test_two_processes_have_the_same_new_channels(run_bundle, tmp_path):
    """Each process draws its own; the network that is trained has those of the main process, and stays one network."""
    stem = "swinViT.patch_embed.proj.weight"
    pretrained = untrained("atlas_stage2", tmp_path / "t1.pt")
    states = ["drawn", "wrapped", "trained"]
    drawn, wrapped, trained = (
        f"$torch.save(@network.state_dict(), str(@output_dir) + '/{name}' + str(@processes.rank) + '.pt')"
        for name in states
    )
    run = ["$@train::checks", drawn, "$@model", wrapped, "$@train::trainer.run()", trained]
    (tmp_path / "look.json").write_text(json.dumps({"run": run}))
    options = [f"--pretrained={pretrained}", f"--args_file={tmp_path / 'look.json'}"]
    options += ["--iterations=2", "--val_interval=2"]  # the first has a learning rate of 0
    result = run_bundle(BUNDLE, *TINY, *options, processes=2)
    assert result.returncode == 0, result.stdout + result.stderr
    (drawn, other), wrapped, trained = (
        [torch.load(tmp_path / BUNDLE / f"{name}{rank}.pt", weights_only=True) for rank in range(2)] for name in states
    )
    assert not torch.equal(drawn[stem], other[stem])
    for name, tensor in drawn.items():
        assert torch.equal(wrapped[0][name], tensor)
        assert torch.equal(wrapped[1][name], tensor)
        assert torch.equal(trained[0][name], trained[1][name])
    assert any(not torch.equal(trained[0][name], tensor) for name, tensor in drawn.items())
    squares = drawn[stem].square().sum((0, 2, 3, 4))
    recorded = json.loads((tmp_path / BUNDLE / "run.json").read_text())["weights"]["shares"][stem]
    assert recorded == pytest.approx((squares / squares.sum()).tolist(), abs=1e-4)


# One run in three ways: straight on, on two nodes, killed and resumed


@pytest.fixture(scope="module")
def straight(start, tmp_path_factory):
    """A training of six steps on two processes of one node, by the command of docs/scale.md."""
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
    check_one_network(folder, "iteration-0000006.pt")
    models = sorted(path.name for path in (folder / "models").iterdir())
    assert models == ["iteration-0000004.pt", "iteration-0000006.pt", "model.pt"]
    assert folder.with_suffix(".log").read_text().count("weights: from scratch") == 1, "one rank speaks"


@pytest.mark.slow
def test_a_killed_run_that_is_resumed_is_the_run_that_was_never_killed(start, straight, tmp_path):
    """Of one process, tests/torture asks for it at any moment."""
    folder = tmp_path / "killed"
    run = start(folder, TWO, *OPTIONS, python=sys.executable)  # cold, whose children are its own
    wait_for(folder / "models/iteration-0000002.pt", run)
    processes = [run.pid, *children(run.pid)]  # torchrun's survive it, and keep the folder
    for process in processes:
        os.killpg(process, signal.SIGKILL) if os.getpgid(process) == process else os.kill(process, signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    assert not (folder / "models/iteration-0000006.pt").exists()
    finish(folder, start(folder, TWO, *OPTIONS, "--resume=true"))
    assert toy.same(state(straight), state(folder))
    one, other = (torch.load(run / "models/model.pt", weights_only=True) for run in (straight, folder))
    assert toy.same(one, other)


# Told to end


@pytest.mark.slow
def test_a_torchrun_that_is_told_saves_and_goes_on_with_other_processes(start, tmp_path):
    """The agent hands the signal on; its own status is 1, whatever that of its processes: docs/scale.md."""
    options, folder = [*LENGTH, "--global_batch_size=4"], tmp_path / "told"
    run = start(folder, [*TWO, "--signals-to-handle=SIGTERM,SIGUSR1"], *options)
    wait_for(folder / "models/iteration-0000002.pt", run)
    run.send_signal(signal.SIGUSR1)
    assert run.wait(timeout=600) == 1
    log = folder.with_suffix(".log")
    assert f"SIGUSR1: saved {folder}/models/iteration-" in log.read_text()
    assert f"status {PREEMPTED}" in log.read_text()

    finish(folder, start(folder, [], *options, "--resume=true"))
    assert "resume: 2 processes wrote " in log.read_text()
    assert "steps of 4 crops (2 x 2 batches x 1 processes)" in log.read_text()
    assert len(state(folder)["ranks"]) == 1


def test_a_signal_to_the_processes_that_read_data_does_not_end_them(tmp_path, monkeypatch):
    """SLURM signals every process of a run; a run without them could not finish its iteration."""

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


def train_and_look(rank, folder):
    """One of two processes, of which the other writes slowly; says whether the state was there when this one ended."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    idist.sync()
    write = checkpoints.write
    checkpoints.write = lambda content, file: (time.sleep(2), write(content, file))
    told = (2, lambda: os.kill(os.getpid(), signal.SIGTERM)) if rank == 1 else None
    try:
        toy.Training(folder / str(rank), 1, save_interval=100, at_iteration=told)
    except SystemExit as ended:
        saved = (folder / "0/models/iteration-0000002.pt").is_file()
        (folder / f"{rank}.json").write_text(json.dumps({"status": ended.code, "saved": saved}))


def test_no_process_ends_before_the_state_is_saved(tmp_path):
    """For whoever started them, such as torchrun, kills the others when one has ended. One of them was told."""
    torch.multiprocessing.spawn(train_and_look, (tmp_path,), nprocs=2)
    for rank in range(2):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == {"status": PREEMPTED, "saved": True}
