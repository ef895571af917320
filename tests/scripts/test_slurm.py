"""scripts/train.sbatch on a real SLURM."""

import re
import shutil
import subprocess
import sys

import pytest

from tests.common.toy import same, state_of
from tests.support import ROOT, TINY


@pytest.fixture(scope="module")
def repository(cohorts, tmp_path_factory):
    """Return a copy of the repository, its path with a space, with the embedded cohort in data/ and ukb.json."""
    folder = tmp_path_factory.mktemp("slurm") / "a repository"
    folder.mkdir()
    for name in ("bundles", "common", "scripts"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("models", "eval"))
    (folder / ".venv").symlink_to(sys.prefix)
    shutil.copytree(cohorts / "ukb", folder / "data")
    shutil.copy(cohorts / "ukb.json", folder)
    return folder


@pytest.fixture
def submit(slurm, repository):
    """Yield a function that submits the training of docs/how-to/use-many-gpus.md, with results in repository/NAME."""
    (command,) = re.findall(r"```bash\n(sbatch .*?)```", (ROOT / "docs/how-to/use-many-gpus.md").read_text(), re.DOTALL)
    at = "--nodes=8 --ntasks-per-node=8 --gpus-per-node=8 --cpus-per-task=6"
    assert at in command

    def submit(name, places, *options):
        output = [f"--output_dir={repository / name}", f"--ckpt_dir={repository / name}/models"]
        result = subprocess.run(
            ["bash", "-c", f'{command.replace(at, places).rstrip()} "$@"', "bash", *output, *TINY, *options],
            cwd=repository,
            env=slurm.environment | {"UKB": f"{repository}/data", "SBATCH_OUTPUT": f"{repository / name}.log"},
            capture_output=True,
            text=True,
            check=True,
        )
        return re.fullmatch(r"Submitted batch job (\d+)\n", result.stdout)[1]

    yield submit
    slurm.ask("scancel", "--user=root")


def state(folder, iteration):
    return state_of(folder / "models" / f"iteration-{iteration:07d}.pt")


LENGTH = ["--iterations=8", "--val_interval=8", "--save_interval=2", "--num_workers=1"]


@pytest.mark.slow
def test_a_job_that_is_told_saves_requeues_itself_and_ends_as_one_that_never_was(slurm, submit, repository):
    """A requeued run on two nodes equals, to the bit, an undisturbed run on one node with as many processes."""
    told = submit("told", "--nodes=2 --ntasks-per-node=1 --gpus-per-node=1", *LENGTH)
    log = repository / "told.log"
    slurm.wait_for_file(told, repository / "told/models/iteration-0000002.pt", log)
    slurm.ask("scancel", "--signal=USR1", told)
    slurm.wait_for_state(told, "PENDING", seconds=60)
    assert re.search(r"SIGUSR1: saved .*iteration-\d+\.pt; resume=true continues from it; status 75", log.read_text())
    straight = submit("straight", "--nodes=1 --ntasks-per-node=2 --gpus-per-node=2", *LENGTH)
    for job, restarts in ((straight, "0"), (told, "1")):
        ended = slurm.wait_for_state(job, "COMPLETED", "FAILED")
        assert (ended["JobState"], ended["ExitCode"], ended["Restarts"]) == ("COMPLETED", "0:0", restarts), (
            log.read_text()
        )
    assert re.search(r"resume: .*iteration-000000[2-7]\.pt, iteration [2-7]$", log.read_text(), re.MULTILINE)
    final = state(repository / "told", 8)
    assert len(final["ranks"]) == 2
    assert same(final, state(repository / "straight", 8))
