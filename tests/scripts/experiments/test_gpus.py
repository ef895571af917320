"""The GPUs of jobs that run at once; CUDA_VISIBLE_DEVICES lists them, so the tests need none."""

from pathlib import Path

import pytest
import yaml

from scripts.experiments.__main__ import experiments
from scripts.experiments.gpus import VISIBLE, GpuPool, visible_gpus

# Writes its GPUs, and waits until as many jobs have done so
SCRIPT = """
import os, sys, time
from pathlib import Path
output, jobs = Path(sys.argv[1]), int(sys.argv[2])
output.mkdir(parents=True, exist_ok=True)
(output / "predictions").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "all"))
while len([*output.parent.glob("*/predictions")]) < jobs:
    time.sleep(0.05)
"""


def run(folder, **options):
    """Run a study of two commands that wait for each other; return the GPUs that each had."""
    (folder / "gpus.py").write_text(SCRIPT)
    at_once = options["jobs"] if options["jobs"] > 1 else 0
    command = {"command": f"python {{script}} {{output}} {at_once}", "files": ["script"]}
    content = {"title": "GPUs", "datalists": {}, "runs": {"one": command, "two": command}}
    (folder / "gpus.yaml").write_text(yaml.safe_dump(content))
    experiments(
        "run",
        str(folder / "gpus.yaml"),
        output=str(folder / "out"),
        files={"script": str(folder / "gpus.py")},
        **options,
    )
    return sorted(path.read_text() for path in (folder / "out/runs").glob("*/predictions"))


@pytest.mark.parametrize(
    ("visible", "options", "expected"),
    [
        ("4,7", {"jobs": 2}, ["4", "7"]),
        ("4,5,6,7", {"jobs": 2, "gpus": 2}, ["4,5", "6,7"]),
        ("4", {"jobs": 2, "gpus": 2}, ["4", "4"]),  # torchrun's processes then fail, and say so
        ("", {"jobs": 2}, ["", ""]),
        ("4,7", {"jobs": 1}, ["4,7", "4,7"]),
    ],
)
def test_jobs_at_once_have_gpus_of_their_own(tmp_path, monkeypatch, visible, options, expected):
    monkeypatch.setenv(VISIBLE, visible)
    assert run(tmp_path, **options) == expected


def test_a_gpu_that_a_job_returns_is_lent_again():
    pool = GpuPool(["0", "1"], 1)
    with pool.lend() as first:
        for _ in range(2):
            with pool.lend() as second:
                assert (first[VISIBLE], second[VISIBLE]) == ("0", "1")
    with pool.lend() as again, pool.lend() as other, pool.lend() as third:
        assert [lent[VISIBLE] for lent in (again, other, third)] == ["0", "1", "0"]


@pytest.mark.parametrize(
    ("program", "expected"), [("#!/bin/sh\nprintf '0\\n1\\n'\n", ["0", "1"]), ("#!/bin/sh\nexit 9\n", [])]
)
def test_all_gpus_of_the_driver_are_visible_by_default(tmp_path, monkeypatch, program, expected):
    monkeypatch.delenv(VISIBLE, raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    Path(tmp_path / "nvidia-smi").write_text(program)
    Path(tmp_path / "nvidia-smi").chmod(0o755)
    assert visible_gpus() == expected
