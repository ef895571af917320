"""`python -m scripts.prepare --slurm` on a real SLURM."""

import json
import shutil

import pytest

from scripts.prepare.subjects import WORK

SETTINGS = "--slurm={'timeout_min':5,'cpus_per_task':1,'mem_gb':3}"


@pytest.mark.slow
def test_slurm_jobs_prepare_what_this_machine_does_and_continue(slurm, cohort, run_prepare, tmp_path):
    """Two subjects with the same scans."""
    environment = {name: value for name, value in slurm.environment.items() if name.startswith("SLURM")}
    for name in ("first", "second"):
        shutil.copytree(cohort.folder / "raw" / cohort.subject, tmp_path / "raw" / name)
    output = tmp_path / "out"
    words = ["--like=ukb", f"--root={tmp_path}/raw", f"--output={output}", "--spacing=4", "--jobs=2", SETTINGS]
    result = run_prepare(*words, **environment)
    assert result.returncode == 0, result.stderr + slurm.logs()
    assert "2 new, 0 done before, 0 failed" in result.stdout
    result = run_prepare(*words, **environment)
    assert "0 new, 2 done before, 0 failed" in result.stdout
    here = json.loads((cohort.folder / "out" / cohort.subject / "prepare.json").read_text())
    for name in ("first", "second"):
        record = json.loads((output / name / "prepare.json").read_text())
        assert {key: record[key] for key in ("settings", "digests")} == {
            key: here[key] for key in ("settings", "digests")
        }
    assert "JobName=prepare " in slurm.ask("scontrol", "show", "job", "--oneliner")
    assert not (output / WORK).exists()
    assert len(json.loads((output / "datalist.json").read_text())["testing"]) == 2
