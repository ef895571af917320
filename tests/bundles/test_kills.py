"""A training that is killed at random moments ends as one that was never killed, to the bit."""

import os
import random
import re
import signal
import subprocess
import sys
import time

import pytest

from scripts.quickstart import ENVIRONMENT
from tests.common import toy
from tests.support import ROOT, TINY

pytestmark = pytest.mark.slow

ITERATIONS = 6


def start(folder, cohorts):
    """Start a training in a process group of its own, with two processes that read; it resumes from the last state."""
    options = [f"--dataset_dir={cohorts / 'atlas'}", f"--datalist={cohorts / 'atlas'}.json", f"--output_dir={folder}"]
    options += [f"--ckpt_dir={folder / 'models'}", *TINY, "--num_workers=2", "--batch_size=1", "--resume=auto"]
    options += [f"--iterations={ITERATIONS}", "--val_interval=3", "--save_interval=1"]
    folder.mkdir(exist_ok=True)
    with (folder / "log").open("a") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "monai.bundle", "run", "--config_file=configs/train.yaml", *options],
            cwd=ROOT / "bundles/atlas_finetune",
            env=os.environ | ENVIRONMENT | {"OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def finish(run, folder):
    """The last state of a training, without its times."""
    assert run.wait(600) == 0, (folder / "log").read_text()
    return toy.state_of(folder / f"models/iteration-{ITERATIONS:07d}.pt")


def test_a_killed_training_ends_as_one_that_was_never_killed(cohorts, tmp_path):
    expected = finish(start(tmp_path / "straight", cohorts), tmp_path / "straight")
    folder, moments = tmp_path / "killed", random.Random(0)
    for _ in range(2):
        run = start(folder, cohorts)
        before = {*folder.glob("models/iteration-*.pt")}
        while run.poll() is None and not {*folder.glob("models/iteration-*.pt")} - before:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 1))
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    assert toy.same(finish(start(folder, cohorts), folder), expected)
    assert not [path for path in (folder / "models").iterdir() if re.match(r"\.(iteration|model)", path.name)]
