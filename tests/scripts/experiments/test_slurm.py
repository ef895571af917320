"""Jobs of a study on a real SLURM."""

import json

import pytest

from tests.support import ROOT, execute


def of_slurm(slurm):
    return {name: value for name, value in slurm.environment.items() if name.startswith("SLURM")}


@pytest.mark.slow
def test_a_study_runs_as_slurm_jobs(slurm, command, work, tmp_path):
    (work.parent / "fail-second-tiny-0").touch()
    settings = "--slurm={'timeout_min':5,'cpus_per_task':1,'mem_gb':1}"
    words = [*command[:3], "run", *command[3:], settings, "--jobs=3"]
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
