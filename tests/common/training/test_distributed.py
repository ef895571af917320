"""Two processes of a training: errors of the main rank, a lost rank, the end of a group, shares of the cases."""

import gc
import weakref
from contextlib import ExitStack

import pytest
import torch
import torch.distributed as dist

from common.errors import InputError
from common.locks import claimed
from common.training.distributed import Processes
from tests.common.training.ranks import on_two_ranks


def use_a_group(rank, folder):
    """Claim folders on the main rank, keep a network alive in a reference cycle, and end rank 1 first."""
    outcomes, claims = [], ExitStack()
    for name in ("free", "held"):
        try:
            claim = claimed("ckpt_dir", folder / name)
            Processes(multi_gpu=True).on_main(lambda claim=claim: claims.enter_context(claim))
            outcomes.append((folder / name / ".in_use").is_file())
        except InputError as error:
            outcomes.append(str(error))
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
    if rank == 0:
        with pytest.raises(RuntimeError, match="Connection closed by peer"):
            dist.barrier()
    return outcomes


def test_two_processes(tmp_path):
    """Errors of the main rank and a lost rank end both; networks are destroyed before their group."""
    with claimed("ckpt_dir", tmp_path / "held"):
        (free, held), second = on_two_ranks(use_a_group, tmp_path, tmp_path)
    assert [free, held] == second
    assert free is True
    assert held.startswith(f"ckpt_dir={tmp_path}/held: in use by another run")
    assert [(tmp_path / f"network{rank}").read_text() for rank in range(2)] == ["gone", "gone"]


@pytest.mark.parametrize("count", [1, 3, 7])
def test_processes_share_the_cases_and_draw_from_seeds_of_their_own(count):
    group = [Processes() for _ in range(count)]
    for rank, process in enumerate(group):
        process.rank, process.count = rank, count
    assert [process.seed(7) for process in group] == [7 + 100_000 * rank for rank in range(count)]
    parts = [process.share("training", range(7)) for process in group]
    assert sorted(case for part in parts for case in part) == [*range(7)]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
