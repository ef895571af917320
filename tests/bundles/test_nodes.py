"""Trainings on several nodes, that are killed or told to end, and go on; a node is a torchrun agent on localhost."""

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

import ignite.distributed as idist
import pytest
import torch
import torch.distributed as dist

from common.training import checkpoints
from common.training.signals import PREEMPTED
from common.training.step import accumulation_steps
from scripts.quickstart import ENVIRONMENT
from tests.common import toy
from tests.support import ROOT, TINY, children

LONG = ["--iterations=20", "--val_interval=20", "--save_interval=10"]
OVERLAY = "['configs/train.yaml','configs/multi_gpu_train.yaml']"
ONE, TWO = [], ["torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m"]  # processes
SCALE = (ROOT / "docs/scale.md").read_text()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture
def start(cohorts, tmp_path):
    """Starts a training of `tmp_path/NAME` by a launcher, in a process group of its own; no process outlives a test."""
    started = []

    def start(name, bundle, launcher, *options, **environment):
        cohort = bundle.split("_")[0]
        config = OVERLAY if launcher else "configs/train.yaml"
        data = [f"--dataset_dir={cohorts / cohort}", f"--datalist={cohorts / cohort}.json"]
        places = [f"--output_dir={tmp_path / name}", f"--ckpt_dir={tmp_path / name / 'models'}"]
        command = [sys.executable, "-m", *launcher, "monai.bundle", "run", f"--config_file={config}"]
        if isinstance(launcher, str):  # a command of a document, from the root of the repository
            command = ["bash", "-c", f'{launcher.rstrip()} "$@"', "bash"]
        with (tmp_path / f"{name}.log").open("a") as log:
            process = subprocess.Popen(
                [*command, *data, *places, *TINY, *options],
                cwd=ROOT if isinstance(launcher, str) else ROOT / "bundles" / bundle,
                env=os.environ | ENVIRONMENT | {"OMP_NUM_THREADS": "1", "UKB": "", "FIRST": "127.0.0.1"} | environment,
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


def state(folder, iteration):
    """What a run has left of itself, without its times."""
    content = torch.load(folder / "models" / f"iteration-{iteration:07d}.pt", weights_only=True)
    del content["record"]["seconds"], content["record"]["started"]
    return content


def documented(program, replaced):
    """The one command of docs/scale.md that has these words, with others in place of those that are too large here."""
    (command,) = [block for block in re.findall(r"```bash\n(.*?)```", SCALE, re.DOTALL) if program in block]
    for large, small in replaced.items():
        assert command.count(large) == 1
        command = command.replace(large, small)
    return command.replace("torchrun", f"'{sys.executable}' -m torch.distributed.run")


# Nodes


def test_the_documented_steps_have_128_crops():
    rows = re.findall(r"^\| (\d+) \| (\d+) x (\d+) x (\d+) = 128 \|$", SCALE, re.MULTILINE)
    assert [row[0] for row in rows] == ["1", "8", "64"]
    for gpus, batch_size, batches, processes in (map(int, row) for row in rows):
        assert gpus == processes
        assert accumulation_steps(128, batch_size, processes) == batches
        assert batch_size * batches * processes == 128


@pytest.mark.slow
def test_two_nodes_train_what_two_processes_of_one_node_train(start, tmp_path):
    short = ["--iterations=2", "--val_interval=2", "--gather_negatives=true"]
    small = {"nnodes=8": "nnodes=2", "nproc_per_node=8": "nproc_per_node=1", "29500": str(free_port())}
    agent = documented("--nnodes", small)
    finish(
        tmp_path / "nodes", *(start("nodes", "ukb_ssl_pretrain", agent, *short, NODE=str(node)) for node in range(2))
    )
    alone = documented("--standalone", {"nproc_per_node=8": "nproc_per_node=2"})
    finish(tmp_path / "node", start("node", "ukb_ssl_pretrain", alone, *short))

    nodes = state(tmp_path / "nodes", 2)
    assert toy.same(nodes, state(tmp_path / "node", 2))
    assert len(nodes["ranks"]) == 2
    assert not torch.equal(nodes["ranks"][0]["random"]["torch"], nodes["ranks"][1]["random"]["torch"])
    record = json.loads((tmp_path / "nodes" / "run.json").read_text())
    assert record["finished"]
    assert record["world_size"] == 2
    models = sorted(path.name for path in (tmp_path / "nodes" / "models").iterdir())
    assert models == ["iteration-0000002.pt", "model.pt"]
    assert len(list(tmp_path.glob("nodes/tensorboard/train/*"))) == 1, "one rank writes"
    assert (tmp_path / "nodes.log").read_text().count("weights: from scratch") == 1, "one rank speaks"


# Killed and resumed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bundle", "launcher", "options"),
    [
        ("ukb_ssl_pretrain", ONE, LONG),
        ("ukb_ssl_pretrain", TWO, [*LONG, "--crops_per_volume=2"]),
    ],
    ids=["ukb_ssl_pretrain", "two processes, crops of a volume"],
)
def test_a_killed_run_that_is_resumed_is_the_run_that_was_never_killed(start, tmp_path, bundle, launcher, options):
    """Of atlas_finetune, tests/torture asks for it at any moment."""
    finish(tmp_path / "straight", start("straight", bundle, launcher, *options))
    run = start("killed", bundle, launcher, *options)
    wait_for(tmp_path / "killed" / "models" / "iteration-0000010.pt", run)
    processes = [run.pid, *children(run.pid)]  # torchrun's survive it, and keep the folder
    for process in processes:
        os.killpg(process, signal.SIGKILL) if os.getpgid(process) == process else os.kill(process, signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "models" / "iteration-0000020.pt").exists()
    finish(tmp_path / "killed", start("killed", bundle, launcher, *options, "--resume=true"))

    assert toy.same(state(tmp_path / "straight", 20), state(tmp_path / "killed", 20))
    one, other = (torch.load(tmp_path / name / "models/model.pt", weights_only=True) for name in ("straight", "killed"))
    assert toy.same(one, other)


# Told to end


@pytest.mark.slow
def test_a_torchrun_that_is_told_saves_and_goes_on_with_other_processes(start, tmp_path):
    """The agent hands the signal on; its own status is 1, whatever that of its processes: docs/scale.md."""
    launcher = [*TWO[:-1], "--signals-to-handle=SIGTERM,SIGUSR1", "-m"]
    options = ["--global_batch_size=4", "--iterations=6", "--val_interval=6", "--save_interval=2"]
    run = start("told", "ukb_ssl_pretrain", launcher, *options)
    wait_for(tmp_path / "told" / "models" / "iteration-0000002.pt", run)
    os.kill(run.pid, signal.SIGUSR1)
    assert run.wait(timeout=60) == 1
    log = tmp_path / "told.log"
    assert f"SIGUSR1: saved {tmp_path}/told/models/iteration-" in log.read_text()
    assert f"status {PREEMPTED}" in log.read_text()

    finish(tmp_path / "told", start("told", "ukb_ssl_pretrain", ONE, *options, "--resume=true"))
    assert "resume: 2 processes wrote " in log.read_text()
    assert "steps of 4 crops (2 x 2 batches x 1 processes)" in log.read_text()
    assert len(state(tmp_path / "told", 6)["ranks"]) == 1


def test_a_signal_to_the_processes_that_read_data_does_not_end_them(tmp_path, monkeypatch):
    """SLURM signals every process of a run; a run without them could not finish its iteration."""

    def signal_all():
        processes = [*multiprocessing.active_children(), multiprocessing.current_process()]
        assert len(processes) == 3
        subprocess.run(["kill", *(str(process.pid) for process in processes)], check=True)

    monkeypatch.setattr(toy, "DataLoader", partial(toy.DataLoader, num_workers=2))
    with pytest.raises(SystemExit) as ended:
        toy.Training(tmp_path, 20, save_interval=100, at_iteration=(5, signal_all))
    assert ended.value.code == PREEMPTED
    assert (tmp_path / "models" / "iteration-0000005.pt").is_file()


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
        saved = (folder / "0" / "models" / "iteration-0000002.pt").is_file()
        (folder / f"{rank}.json").write_text(json.dumps({"status": ended.code, "saved": saved}))


def test_no_process_ends_before_the_state_is_saved(tmp_path):
    """For whoever started them, such as torchrun, kills the others when one has ended. One of them was told."""
    torch.multiprocessing.spawn(train_and_look, (tmp_path,), nprocs=2)
    for rank in range(2):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == {"status": PREEMPTED, "saved": True}
