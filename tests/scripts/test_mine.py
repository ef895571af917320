"""`python -m scripts.mine` on the six heads of a cohort, and what it decides."""

import json
import re
import subprocess
import sys

import nibabel
import numpy as np
import pytest

from scripts import mine
from tests.support import execute

TINY = {"patch_size": "32,32,64", "iterations": 3, "val_interval": 3, "warmup_iterations": 0}


@pytest.mark.slow
def test_a_folder_of_scans_becomes_a_model(cohorts, tmp_path):
    output, regions = tmp_path / "out", tmp_path / "regions.yaml"
    regions.write_text("tumour: [1, 2, 4]")
    command = [sys.executable, "-m", "scripts.mine", str(cohorts / "brats"), f"--output={output}"]
    command += ["--hours=0.01", "--device=cpu", f"--regions={regions}"]
    planned = execute(command)
    assert planned.returncode == 0, planned.stderr
    assert "a trial of the commands only" in planned.stdout
    assert {path.name for path in output.iterdir()} == {"plan.sh", "regions.yaml"}, "a plan does nothing yet"
    script = (output / "plan.sh").read_text()
    for name, value in TINY.items():
        script = re.sub(rf"--{name}=\S+", f"--{name}={value}", script)
    (output / "plan.sh").write_text(script)
    done = execute([*command, "--yes"])
    assert done.returncode == 0, done.stderr
    assert (output / "plan.sh").read_text() == script, "an edited plan stays"
    assert json.loads((output / "training/run.json").read_text())["config"]["iterations"] == 3
    assert "<h1>Evaluation of brats</h1>" in (output / "evaluation/evaluation.html").read_text()
    assert "Run report: brats" in (output / "report.html").read_text()
    assert subprocess.run(["bash", output / "plan.sh"], check=False).returncode == 0, "it may be repeated"


def test_steps_fill_three_quarters_of_the_hours():
    assert mine.length_of(0.9, 1.0, "cpu") == {"iterations": 3000, "val_interval": 300, "warmup_iterations": 600}


def test_brains_on_one_grid_are_used_and_scans_on_several_are_prepared(cohorts, tmp_path):
    entry = json.loads((cohorts / "brats.json").read_text())["training"][0]
    case = {"subject": entry["subject"], "image": [str(cohorts / "brats" / file) for file in entry["image"]]}
    assert mine.ranges_of([case], "abcd")["spacing"][0] == [4, 4, 4]
    scan = nibabel.load(case["image"][0])
    moved = nibabel.Nifti1Image(np.asarray(scan.dataobj), np.diag([2.0, 2, 2, 1]) @ scan.affine)
    nibabel.save(moved, tmp_path / "moved.nii.gz")
    case["image"][0] = str(tmp_path / "moved.nii.gz")
    assert mine.ranges_of([case], "abcd") is None
