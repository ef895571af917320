"""Job arrays on a real SLURM."""

import os
import signal
import time
from types import SimpleNamespace

import pytest

from scripts.arrays import JobArray, array_of
from tests.support import ROOT, refused

SETTINGS = {"timeout_min": 5, "cpus_per_task": 1, "mem_gb": 1}


@pytest.fixture
def cluster(slurm, monkeypatch):
    for name in ("SLURM_CONF", "PYTHONPATH"):
        if name in slurm.environment:
            monkeypatch.setenv(name, slurm.environment[name])
    monkeypatch.chdir(ROOT)
    return slurm


def square(number):
    """Return the square of a number and the number of its job; 4 kills its process."""
    if number == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number, os.environ["SLURM_ARRAY_TASK_ID"]


@pytest.mark.slow
def test_jobs_share_the_items_and_a_killed_process_loses_only_its_own(cluster, tmp_path, capsys):
    array = array_of(SETTINGS, tmp_path, "squares", 3)
    results = array.map(square, range(8), "number")
    assert results == [None if number == 4 else (number * number, str(number % 3)) for number in range(8)]
    jobs = cluster.ask("scontrol", "show", "job", "--oneliner").splitlines()
    assert sum("JobName=squares " in job for job in jobs) == 3
    assert len(list((tmp_path / ".slurm").glob("*_result.pkl"))) == 3
    printed = capsys.readouterr().err
    assert ", an array of size 3, continues if this command ends" in printed
    assert "8/8" in printed


def wait_once(order):
    """Return the number; the first call with 1 waits for ten minutes."""
    number, folder = order
    with (folder / "log").open("a") as log:
        log.write(f"{number}\n")
    if not (folder / str(number)).exists():
        (folder / str(number)).touch()
        time.sleep(600 if number == 1 else 0)
    return number


@pytest.mark.slow
def test_a_job_that_is_told_to_end_is_requeued_and_continues(cluster, tmp_path):
    """All processes of a job get the signal; only the first may handle it."""
    pid = os.fork()
    if pid == 0:  # send the signal when the job is at work
        log = tmp_path / "log"
        while not log.exists() or log.read_text().split() != ["0", "1"]:
            time.sleep(0.2)
        number = next((tmp_path / ".slurm").glob("*_submitted.pkl")).name.split("_")[0]
        os.execvp("scancel", ["scancel", "--signal=USR1", number])
    results = array_of(SETTINGS, tmp_path, "waits", 1).map(wait_once, [(number, tmp_path) for number in range(3)], "it")
    assert os.waitpid(pid, 0)[1] == 0
    assert results == [0, 1, 2]
    assert (tmp_path / "log").read_text().split() == ["0", "1", "0", "1", "2"]


def test_a_failed_submission_removes_its_own_files_and_leaves_those_of_jobs_that_run(tmp_path):
    def submit(*_):
        for name in ("7_0_0_result.pkl", "0123abcd.pkl", ".submission_file_0123abcd.sh"):
            (tmp_path / name).touch()  # the first by a job of an earlier array, which ends meanwhile
        raise OSError("sbatch: error")

    with refused(text="--slurm: sbatch: error"):
        JobArray(SimpleNamespace(map_array=submit), tmp_path, 1).map(print, [1], "it")
    assert [file.name for file in tmp_path.iterdir()] == ["7_0_0_result.pkl"]
