"""Run functions on two ranks of a gloo group; `python -m tests.common.training.ranks FOLDER RANK` is a rank."""

import pickle
import sys
from multiprocessing.pool import ThreadPool
from pathlib import Path

import torch.distributed as dist

from common.training.distributed import leave_process_group
from tests.support import execute


def on_two_ranks(function, folder: Path, *arguments):
    """The results of `function(rank, *arguments)` on ranks 0 and 1."""
    (folder / "call").write_bytes(pickle.dumps((function, arguments)))
    command = [sys.executable, "-m", "tests.common.training.ranks", str(folder)]
    with ThreadPool(2) as pool:
        ended = pool.map(lambda rank: execute([*command, str(rank)]), range(2))
    assert [process.returncode for process in ended] == [0, 0], [process.stderr for process in ended]
    return [pickle.loads((folder / f"returned{rank}").read_bytes()) for rank in range(2)]


def main(folder: Path, rank: int) -> None:
    function, arguments = pickle.loads((folder / "call").read_bytes())
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    (folder / f"returned{rank}").write_bytes(pickle.dumps(function(rank, *arguments)))
    leave_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
