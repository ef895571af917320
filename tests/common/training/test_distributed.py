"""The processes of a training: what stands for one, what torchrun starts, how a group ends."""

import gc
import os
import sys
import time
import weakref
from datetime import timedelta
from functools import partial

import pytest
import torch
import torch.distributed as dist
from monai.transforms import Compose, Lambdad

from common.data.datasets import CaseDataset
from common.errors import InputError, explain_lost_process
from common.locks import claim, claimed
from common.training.distributed import Processes, leave_process_group
from tests.common.training.ranks import on_two_ranks
from tests.support import execute

CASES = [{"subject": f"case{n}", "image": f"file{n}"} for n in range(7)]


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def started(monkeypatch):
    """Sets the environment of a process that torchrun has started with others."""

    def started(count):
        monkeypatch.setenv("RANK", "0")
        monkeypatch.setenv("WORLD_SIZE", str(count))

    return started


def group(count):
    """Stands for each process of a group, without starting them."""
    processes = [Processes() for _ in range(count)]
    for rank, process in enumerate(processes):
        process.rank, process.count = rank, count
    return processes


# The group


def test_a_process_alone_is_the_main_one(started):
    process = Processes()
    assert (process.rank, process.count, process.is_main) == (0, 1, True)
    assert process.device == torch.device("cuda" if torch.cuda.is_available() else "cpu")
    assert process.device_ids("cpu") is None
    assert process.device_ids("cuda:1") == [torch.device("cuda:1")]
    started(1)
    assert Processes().count == 1, "a single process of torchrun needs no overlay"


def test_networks_that_would_train_apart_are_refused(started):
    with pytest.raises(InputError, match=r"^multi_gpu_train.yaml: no processes of torchrun; expected torchrun"):
        Processes(multi_gpu=True)
    started(2)
    with pytest.raises(InputError, match=r"^torchrun started 2 processes: expected configs/multi_gpu_train.yaml"):
        Processes()


def test_a_group_waits_for_its_patience_in_minutes(started, monkeypatch):
    asked = {}
    monkeypatch.setattr(dist, "init_process_group", lambda backend, timeout: asked.update(timeout=timeout))
    monkeypatch.setattr("common.training.distributed.atexit.register", lambda function: asked.update(end=function))
    started(2)
    Processes(multi_gpu=True, patience=0.5)
    assert asked == {"timeout": timedelta(seconds=30), "end": leave_process_group}


def test_each_process_has_a_seed_of_its_own():
    assert [process.seed(7) for process in group(3)] == [7, 100_007, 200_007]


def test_a_process_that_is_killed_ends_the_others_with_a_line(tmp_path):
    launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node=2", "--log-dir", str(tmp_path), "-r", "3"]
    assert execute([sys.executable, "-m", *launcher, "-m", "tests.common.training.losing"]).returncode == 1
    told = "".join(path.read_text() for path in tmp_path.glob("*/attempt_0/0/stderr.log"))
    assert "Traceback" not in told
    expected = "process of rank 0: another process of this run has ended; expected its own last lines to say why"
    assert [line for line in told.splitlines() if line.startswith("error: ")] == [f"error: {expected}"]


def use_a_group(rank, folder):
    """On each of two ranks: claim folders on the main one, leave a network in a cycle, and let rank 1 freeze."""
    told = []
    for name in ("free", "held"):
        try:
            Processes().on_main(partial(claim, "ckpt_dir", folder / name))
            told.append((folder / name / ".in_use").is_file())
        except InputError as error:
            told.append(str(error))
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 2))
    model(torch.ones(1, 2)).sum().backward()
    network, destroy = weakref.ref(model), dist.destroy_process_group

    def leave():
        (folder / f"network{rank}").write_text("alive" if network() else "gone")
        destroy()

    gc.disable()
    dist.destroy_process_group = leave
    model.itself = [model]
    del model
    if rank == 1:
        time.sleep(8)
        return told
    try:
        dist.barrier()
    except RuntimeError as error:
        return [*told, explain_lost_process(error)]
    return told


def test_two_processes(tmp_path):
    """All end if the main one finds the folder in use, or if one is frozen; networks end before their group."""
    with claimed("ckpt_dir", tmp_path / "held"):
        (free, held, frozen), second = on_two_ranks(use_a_group, tmp_path, tmp_path, timeout=5)
    assert [free, held] == second
    assert free is True
    assert held.startswith(f"ckpt_dir={tmp_path}/held: in use by process {os.getpid()} on ")
    assert frozen.startswith("process of rank ?: another process of this run has not answered in time")
    assert [(tmp_path / f"network{rank}").read_text() for rank in range(2)] == ["gone", "gone"]


# Shares


@pytest.mark.parametrize("processes", [1, 3, 7])
def test_processes_share_the_cases_and_cache_them_once(processes):
    read = []
    reading = Compose([Lambdad("image", lambda file: read.append(file) or torch.zeros(1))])
    parts = [one.share("training", CASES) for one in group(processes)]
    for part in parts:
        CaseDataset(part, reading, cache_rate=1.0)
    assert sorted(read) == sorted(case["image"] for part in parts for case in part) == [case["image"] for case in CASES]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_fewer_cases_than_processes_are_refused():
    with pytest.raises(InputError, match="split validation: 7 cases for 8 processes; expected at least one for each"):
        group(8)[0].share("validation", CASES)
