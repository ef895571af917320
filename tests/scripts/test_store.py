"""`python -m scripts.store --slurm` on a real SLURM."""

import json
import sys

import pytest

from tests.support import execute


@pytest.mark.slow
def test_slurm_jobs_fill_a_store(slurm, cohorts, tmp_path):
    environment = {name: value for name, value in slurm.environment.items() if name.startswith("SLURM")}
    words = [f"--store={tmp_path / 'store'}", "--model_size=micro", "--patch_size=[64,64,64]", "--num_workers=0"]
    places = [f"--dataset_dir={cohorts / 'atlas'}", f"--datalist={cohorts / 'atlas.json'}"]
    settings = ["--jobs=2", "--slurm={'timeout_min':5,'cpus_per_task':1,'mem_gb':3}"]
    command = [sys.executable, "-m", "scripts.store", "atlas_stage2", *words, *places]
    result = execute([*command, *settings], **environment)
    assert result.returncode == 0, result.stderr + slurm.logs()
    assert "an array of size 2" in result.stderr
    subjects = json.loads((cohorts / "atlas.json").read_text())["training"]
    assert f"subjects: {len(subjects)} (0 stored" in result.stdout
    assert f"{len(subjects)} stored, 0 to prepare" in execute(command).stdout
