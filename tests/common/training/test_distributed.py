"""The processes of a training: ranks, torchrun's variables, shares of the cases, the end of a group."""

import gc
import weakref
from functools import partial

import pytest
import torch
import torch.distributed as dist

from common.errors import InputError
from common.locks import claim, claimed
from common.training.distributed import Processes
from tests.common.training.ranks import on_two_ranks


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)


def group(count):
    """The `Processes` of each rank of a group that is not started."""
    processes = [Processes() for _ in range(count)]
    for rank, process in enumerate(processes):
        process.rank, process.count = rank, count
    return processes


# The group


def test_each_process_has_a_seed_of_its_own():
    assert [process.seed(7) for process in group(3)] == [7, 100_007, 200_007]


def use_a_group(rank, folder):
    """Claim folders on the main rank, keep a network alive in a reference cycle, and end rank 1 first."""
    outcomes = []
    for name in ("free", "held"):
        try:
            Processes().on_main(partial(claim, "ckpt_dir", folder / name))
            outcomes.append((folder / name / ".in_use").is_file())
        except InputError as error:
            outcomes.append(str(error))
    outcomes.append(Processes().on_main(lambda: f"said by {rank}"))
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
        return outcomes
    try:
        dist.barrier()
    except RuntimeError as error:
        return [*outcomes, str(error)]
    return outcomes


def test_two_processes(tmp_path):
    """Errors of the main rank and a lost rank end both; networks are destroyed before their group."""
    with claimed("ckpt_dir", tmp_path / "held"):
        (free, held, said, lost), second = on_two_ranks(use_a_group, tmp_path, tmp_path)
    assert [free, held, said] == second
    assert said == "said by 0"
    assert free is True
    assert held.startswith(f"ckpt_dir={tmp_path}/held: in use by another run")
    assert "Connection closed by peer" in lost
    assert [(tmp_path / f"network{rank}").read_text() for rank in range(2)] == ["gone", "gone"]


# Shares


@pytest.mark.parametrize("processes", [1, 3, 7])
def test_processes_share_the_cases(processes):
    parts = [process.share("training", range(7)) for process in group(processes)]
    assert sorted(case for part in parts for case in part) == [*range(7)]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
