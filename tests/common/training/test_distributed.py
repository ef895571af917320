"""Processes of a training: errors of the main process, shares of the cases."""

from contextlib import ExitStack

from common.errors import InputError
from common.files import claimed
from common.training.distributed import Processes
from tests.common.training.ranks import on_two_ranks


def claim_folders(rank, folder):
    """Claim a free and a held folder on the main rank; return the outcomes."""
    outcomes, claims = [], ExitStack()
    for name in ("free", "held"):
        try:
            claim = claimed("ckpt_dir", folder / name)
            Processes(multi_gpu=True).on_main(lambda claim=claim: claims.enter_context(claim))
            outcomes.append((folder / name / ".in_use").is_file())
        except InputError as error:
            outcomes.append(str(error))
    return outcomes


def test_an_error_of_the_main_process_is_raised_in_all(tmp_path):
    with claimed("ckpt_dir", tmp_path / "held"):
        (free, held), second = on_two_ranks(claim_folders, tmp_path, tmp_path)
    assert [free, held] == second
    assert free is True
    assert held.startswith(f"ckpt_dir={tmp_path}/held: in use by another run")


def test_processes_share_the_cases_and_draw_from_seeds_of_their_own():
    group = [Processes() for _ in range(3)]
    for rank, process in enumerate(group):
        process.rank, process.count = rank, 3
    assert [process.seed(7) for process in group] == [7, 100_007, 200_007]
    parts = [process.share(range(7)) for process in group]
    assert sorted(case for part in parts for case in part) == [*range(7)]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
