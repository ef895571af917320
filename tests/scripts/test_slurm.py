"""scripts/train.sbatch with stand-ins for SLURM's commands: the processes of a job, and a requeue after a signal."""

import os
import shutil
import subprocess

import pytest

from tests.support import ROOT

SRUN = """#!/bin/bash
echo "srun $*" >> "$LOG"
while [[ $1 == --* ]]; do shift; done
for task in 0 1; do
  SLURM_PROCID=$task SLURM_NTASKS=2 SLURM_LOCALID=$task "$@" || exit
done
"""
PYTHON = """#!/bin/bash
echo "rank $RANK of $WORLD_SIZE, local $LOCAL_RANK, $MASTER_ADDR:$MASTER_PORT, $OMP_NUM_THREADS threads: $*" >> "$LOG"
exit "$STATUS"
"""
SCONTROL = """#!/bin/bash
if [ "$1" = show ]; then printf 'node7\\nnode8\\n'; else echo "scontrol $*" >> "$LOG"; fi
"""


@pytest.fixture
def submit(tmp_path):
    """Return a function that runs the script in a repository whose path has a space; it returns status and log."""
    place = tmp_path / "a repository"
    (place / "bundles/ukb_ssl_pretrain/configs").mkdir(parents=True)
    (place / "bundles/ukb_ssl_pretrain/configs/train.yaml").touch()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL), (".venv/bin/python", PYTHON)):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
        (place / name).chmod(0o755)
    job = {"SLURM_JOB_ID": "123", "SLURM_JOB_NODELIST": "node[7-8]", "SLURM_TASKS_PER_NODE": "2(x1)"}
    job |= {"SLURM_SUBMIT_DIR": str(place), "SLURM_CPUS_PER_TASK": "6", "LOG": str(place / "log")}
    job["PATH"] = f"{place}:{os.environ['PATH']}"

    def run(bundle, status, **environment):
        command = [shutil.which("bash"), str(ROOT / "scripts/train.sbatch"), bundle, "--datalist=a b.json"]
        variables = {**job, "STATUS": str(status), **environment}
        ended = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
        log = (place / "log").read_text().splitlines() if (place / "log").exists() else []
        return ended.returncode, log, ended.stderr

    return run


def test_each_task_is_a_rank_and_a_finished_job_ends(submit):
    status, (srun, *ranks), _ = submit("ukb_ssl_pretrain", 0)
    assert status == 0
    assert "--kill-on-bad-exit=0" in srun
    assert ranks == [
        f"rank {rank} of 2, local {rank}, node7:20123, 6 threads: "
        "-m scripts.run ukb_ssl_pretrain train --datalist=a b.json --resume=auto"
        for rank in (0, 1)
    ]


@pytest.mark.parametrize(("status", "is_requeued"), [(75, True), (1, False)])
def test_a_job_that_saved_after_a_signal_is_requeued(submit, status, is_requeued):
    ended, log, _ = submit("ukb_ssl_pretrain", status)
    assert (ended, log[-1] == "scontrol requeue 123") == (status, is_requeued)


@pytest.mark.parametrize(
    ("bundle", "environment"), [("ukb_ssl", {}), ("ukb_ssl_pretrain", {"SLURM_GPUS_ON_NODE": "8"})]
)
def test_a_wrong_bundle_or_number_of_tasks_is_refused(submit, bundle, environment):
    status, log, errors = submit(bundle, 0, **environment)
    assert (status, log) == (2, [])
    assert errors.startswith("error: ")
