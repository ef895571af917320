"""The processes of a training: what stands for one, what torchrun starts, how a group ends."""

import os
import subprocess
import sys
import time
from functools import partial

import pytest
import torch
import torch.distributed as dist

from common.errors import InputError
from common.locks import claim, claimed
from common.training.distributed import Processes
from tests.support import ROOT, children

CASES = [{"subject": f"case{n}"} for n in range(7)]


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)


def group(count):
    """Stands for each process of a group, without starting them."""
    processes = [Processes() for _ in range(count)]
    for rank, process in enumerate(processes):
        process.rank, process.count = rank, count
    return processes


# The group


def test_a_process_alone_is_the_main_one():
    process = Processes()
    assert (process.rank, process.count, process.is_main) == (0, 1, True)
    assert process.device == torch.device("cuda" if torch.cuda.is_available() else "cpu")
    assert process.device_ids("cpu") is None
    assert process.device_ids("cuda:1") == [torch.device("cuda:1")]


def test_networks_that_would_train_apart_are_refused(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match=r"^torchrun started 2 processes: expected configs/multi_gpu_train.yaml"):
        Processes()


def test_the_overlay_without_torchrun_is_refused():
    with pytest.raises(InputError, match=r"^multi_gpu_train.yaml: no processes of torchrun; expected torchrun"):
        Processes(multi_gpu=True)


def test_a_single_process_of_torchrun_needs_no_overlay(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert Processes().count == 1


def test_each_process_has_a_seed_of_its_own():
    assert [process.seed(7) for process in group(3)] == [7, 100_007, 200_007]


LOSING = """
import os, signal, sys
import torch
from common.errors import explain_lost_process, report_in_one_line
from common.training.distributed import Processes
from common.training.signals import StopRequest
from ignite.engine import Engine
report_in_one_line(explain=explain_lost_process)
processes = Processes(multi_gpu=True, patience=float(sys.argv[2]))
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 2))
def step(engine, batch):
    if processes.rank == 1 and engine.state.iteration == 2:
        os.kill(os.getpid(), getattr(signal, sys.argv[1]))
    model(torch.ones(1, 2)).sum().backward()
trainer = Engine(step)
StopRequest().watch(trainer)
trainer.run([0, 1, 2])
"""


@pytest.mark.parametrize(
    ("sent", "patience", "why"),
    [("SIGKILL", 10, "has ended"), ("SIGSTOP", 0.5, "has not answered in time")],  # minutes; a busy machine needs some
)
def test_a_process_that_is_lost_ends_the_others_with_a_line(tmp_path, sent, patience, why):
    (tmp_path / "losing.py").write_text(LOSING)
    launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node=2", "--log-dir", str(tmp_path), "-r", "3"]
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *launcher, str(tmp_path / "losing.py"), sent, str(patience)]
    with subprocess.Popen(command, env=os.environ | environment, stderr=subprocess.DEVNULL) as agent:
        told = ""
        while not told.endswith("say why\n"):
            assert agent.poll() is None or told, "nobody said anything"
            time.sleep(0.1)
            told = "".join(path.read_text() for path in tmp_path.glob("*/attempt_0/0/stderr.log"))
        subprocess.run(["kill", "-CONT", *map(str, children(agent.pid))], check=False, capture_output=True)
        assert agent.wait(timeout=600) == 1
    assert "Traceback" not in told
    expected = f"process of rank 0: another process of this run {why}; expected its own last lines to say why"
    assert [line for line in told.splitlines() if line.startswith("error: ")] == [f"error: {expected}"]


def take(rank, folder):
    """One of two processes that want two folders; what became of that."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    for name in ("free", "held"):
        try:
            Processes().on_main(partial(claim, "ckpt_dir", folder / name))
            told = f"{(folder / name / '.in_use').is_file()}"
        except InputError as error:
            told = str(error)
        (folder / f"{name}{rank}").write_text(told)
        dist.barrier()
    dist.destroy_process_group()  # its threads would abort a process that ends before them


def test_all_processes_end_if_the_main_one_finds_the_folder_in_use(tmp_path):
    with claimed("ckpt_dir", tmp_path / "held"):
        torch.multiprocessing.spawn(take, (tmp_path,), nprocs=2)
    assert [(tmp_path / f"free{rank}").read_text() for rank in range(2)] == ["True", "True"]
    lines = [(tmp_path / f"held{rank}").read_text() for rank in range(2)]
    assert lines[0] == lines[1]
    assert lines[0].startswith(f"ckpt_dir={tmp_path}/held: in use by process {os.getpid()} on ")


# Shares


@pytest.mark.parametrize("processes", [1, 2, 3, 7])
def test_processes_share_the_cases(processes):
    parts = [one.share("training", CASES) for one in group(processes)]
    subjects = [case["subject"] for part in parts for case in part]
    assert sorted(subjects) == [case["subject"] for case in CASES]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_fewer_cases_than_processes_are_refused():
    with pytest.raises(InputError, match="split validation: 7 cases for 8 processes; expected at least one for each"):
        group(8)[0].share("validation", CASES)


CACHING = """
import sys
from pathlib import Path
import torch
from monai.transforms import Compose, Lambdad
from common.data.datasets import CaseDataset
from common.training.distributed import Processes
rank, processes = int(sys.argv[1]), int(sys.argv[2])
cases = [{"subject": str(n), "image": ["file"]} for n in range(16)]
read = Lambdad("image", lambda _: torch.ones(2**21))  # 8 MiB a case
memory = lambda: int(Path("/proc/self/statm").read_text().split()[1]) * 4  # KiB
share = Processes()
share.rank, share.count = rank, processes
before = memory()
dataset = CaseDataset(share.share("training", cases), Compose([read]), cache_rate=1.0)
print(memory() - before)
"""


def test_what_processes_cache_together_is_the_cohort_once():
    def cached(processes):
        commands = [[sys.executable, "-c", CACHING, str(rank), str(processes)] for rank in range(processes)]
        grown = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for command in commands]
        return sum(map(int, grown)) / 1024  # MiB

    assert cached(1) == pytest.approx(128, rel=0.15)
    assert cached(4) == pytest.approx(128, rel=0.15)


# Leaving the process group

LEAVING = """
import atexit, gc, sys, weakref
import torch, torch.distributed as dist
from common.training.distributed import leave_process_group
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
