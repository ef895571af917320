"""Jobs of a study on a real SLURM."""

import json
import os
import subprocess

import pytest

from tests.processes import wait_until
from tests.support import ROOT, execute

SETTINGS = "--slurm={'timeout_min':5,'cpus_per_task':1,'mem_gb':1}"


def of_slurm(slurm):
    return {name: value for name, value in slurm.environment.items() if name.startswith("SLURM")}


@pytest.mark.slow
def test_a_study_runs_as_slurm_jobs(slurm, command, work, tmp_path):
    (work.parent / "fail-second-tiny-0").touch()
    words = [*command[:3], "run", *command[3:], SETTINGS, "--jobs=3"]
    result = execute(words, ROOT, **of_slurm(slurm))
    log = work.with_suffix(".log").read_text().split()
    assert result.returncode == 1, result.stderr + slurm.logs()
    assert sorted(log) == sorted(
        ["first", "first", "alone", *(f"second-{size}-{fold}" for size in ("tiny", "small") for fold in (0, 1))]
    )
    assert "failed       second/tiny-fold0: it broke: second-tiny-0" in result.stdout
    assert "6 done, 1 failed" in result.stdout
    assert json.loads((tmp_path / "out/jobs/alone/record.json").read_text())["state"] == "done"
    names = slurm.ask("scontrol", "show", "job", "--oneliner")
    assert "JobName=second-tiny-fold0" in names


@pytest.mark.slow
def test_slurm_jobs_of_a_killed_run_go_on_and_the_next_run_waits_for_them(slurm, command, work):
    (work.parent / "wait-alone").touch()
    words = [*command[:3], "run", *command[3:], SETTINGS, "--only=alone"]
    killed = subprocess.Popen(words, cwd=ROOT, env=os.environ | of_slurm(slurm), stderr=subprocess.DEVNULL)
    wait_until(work.with_suffix(".log").exists, slurm.logs, 60)
    killed.kill()
    killed.wait()
    run = subprocess.Popen(words, cwd=ROOT, env=os.environ | of_slurm(slurm), stdout=subprocess.PIPE, text=True)
    lines = [run.stdout.readline() for _ in range(2)]
    assert lines[1].startswith("waits        alone: another process runs alone; "), lines
    (work.parent / "wait-alone").unlink()
    printed, _ = run.communicate(timeout=60)
    assert (run.returncode, printed.splitlines()) == (0, ["done         alone", "1 done"])
    assert work.with_suffix(".log").read_text() == "alone\n"
