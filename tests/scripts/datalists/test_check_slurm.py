"""`python -m scripts.datalists check --slurm` on a real SLURM."""

import json
import sys

import pytest

from scripts.phantoms.cohort import make
from tests.support import ROOT, execute

SETTINGS = "--slurm={'timeout_min':5,'cpus_per_task':1,'mem_gb':1}"


@pytest.fixture
def options(tmp_path):
    make("atlas", 5, str(tmp_path / "root"), spacing=4, faults="nan", workers=1)
    commands = ["atlas", f"--root={tmp_path}/root", f"--output={tmp_path}/list.json"]
    assert execute([sys.executable, "-m", "scripts.datalists", *commands], ROOT).returncode == 0
    return [f"--datalist={tmp_path}/list.json", f"--root={tmp_path}/root"]


def check(*options, **environment):
    return execute([sys.executable, "-m", "scripts.datalists", "check", *options], ROOT, **environment)


@pytest.mark.slow
def test_slurm_jobs_find_what_this_machine_finds_and_are_not_needed_again(slurm, options, tmp_path):
    environment = {name: value for name, value in slurm.environment.items() if name.startswith("SLURM")}
    words = [*options, f"--output={tmp_path}/out", SETTINGS, "--workers=2"]
    result = check(*words, **environment)
    assert result.returncode == 1, result.stderr + slurm.logs()
    assert "2 parts; they go on if this command ends" in result.stderr
    here = check(*options, f"--output={tmp_path}/here", "--workers=1")
    assert "not_finite" in here.stdout
    for name in ("findings.csv", "findings.html"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()
    again = check(*words, **environment)
    assert again.stdout == result.stdout[result.stdout.index("list.json: ") :]  # after warnings of submitit
    assert "SLURM job" not in again.stderr
    subjects = json.loads((tmp_path / "list.json").read_text())["training"]
    assert "5 of 5 subjects were read before" in again.stderr
    assert len(list((tmp_path / "out/records").rglob("*.json"))) == 5 > len(subjects) > 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--workers=2"], "expected --output too, a folder that all nodes share"),
        (
            ["--output={}/out"],
            "--workers=0: expected the number of SLURM jobs, such as 32, with --slurm={'timeout_min'",
        ),
    ],
)
def test_what_slurm_needs_is_asked_for(options, tmp_path, more, message):
    result = check(*options, SETTINGS, *[word.format(tmp_path) for word in more])
    assert result.returncode == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
