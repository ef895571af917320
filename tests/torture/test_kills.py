"""A training that is killed again and again, at random moments, ends as one that was never killed, to the bit.

`make torture` kills 50 times and follows the memory of 1,000 steps; `make test-all` kills three times.
"""

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.quickstart import ENVIRONMENT
from tests.common import toy
from tests.support import ROOT, TINY

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("TORTURE_KILLS", "3"))
STEPS = int(os.environ.get("TORTURE_STEPS", "0"))  # in which memory must not grow; it does in the first 30
SEED = int(os.environ.get("TORTURE_SEED", "0"))  # of the moments
BUNDLE, ITERATIONS = "atlas_finetune", 8
PATIENCE = 300  # seconds for what takes a few; a busy machine may need more than a quiet one
GROWTH = 64  # MiB that memory may grow by in the second half of a run: of 1,000 steps, 0.13 MiB a step fails


class Run:
    """A training in a process group of its own, with two processes that read; it resumes if there is a state."""

    def __init__(self, folder: Path, cohorts: Path, *options: str):
        self.log = folder / "log"
        self.models = folder / "models"
        folder.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "monai.bundle", "run", "--config_file=configs/train.yaml"]
        data = [f"--dataset_dir={cohorts / 'atlas'}", f"--datalist={cohorts / 'atlas'}.json"]
        places = [f"--output_dir={folder}", f"--ckpt_dir={self.models}"]
        length = [f"--iterations={ITERATIONS}", "--val_interval=4", "--save_interval=1", "--resume=auto"]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [*command, *data, *places, *TINY, "--num_workers=2", "--batch_size=1", *length, *options],
                cwd=ROOT / "bundles" / BUNDLE,
                env=os.environ | ENVIRONMENT | {"OMP_NUM_THREADS": "1"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def states(self) -> list[Path]:
        return sorted(self.models.glob("iteration-*.pt"))

    def wait_until(self, has_come: Callable[[], object], patience: float = PATIENCE) -> bool:
        """Whether something comes before the run ends by itself."""
        end = time.monotonic() + patience
        while self.process.poll() is None:
            assert time.monotonic() < end, self.log.read_text()
            if has_come():
                return True
            time.sleep(0.001)
        return False

    def wait_for(self, seconds: float) -> bool:
        """Whether the run goes on for some time."""
        end = time.monotonic() + seconds
        return self.wait_until(lambda: time.monotonic() > end)

    def members(self) -> list[int]:
        """The processes of the group that still run."""
        found = []
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, _, group = status.read_text().rpartition(")")[2].split()[:3]
            except OSError:  # it has ended meanwhile
                continue
            if int(group) == self.process.pid and state != "Z":
                found.append(int(status.parent.name))
        return found

    def kill(self, whole_group: bool) -> None:
        """Kill all processes, or the main one, after which the others end by themselves."""
        if whole_group:
            os.killpg(self.process.pid, signal.SIGKILL)
        else:
            self.process.kill()
        self.process.wait()
        end = time.monotonic() + PATIENCE
        while self.members():
            assert time.monotonic() < end, "processes that read outlive the training"
            time.sleep(0.05)


def state(run: Run) -> dict:
    """The last state of a run that has ended well, without its times."""
    assert run.process.wait(PATIENCE * 2) == 0, run.log.read_text()
    return toy.state_of(run.models / f"iteration-{ITERATIONS:07d}.pt")


def strike(run: Run, moments: random.Random) -> str:
    """Kill a run at a random moment; returns which, "" if it ended first."""
    kind = moments.choice(["start", "step", "save", "save", "reader"])
    before = run.states()
    delay = moments.uniform(0, 10 if kind == "start" else 2)
    if kind == "start":
        has_come = run.wait_for(delay)
    elif kind == "step":
        has_come = run.wait_until(lambda: set(run.states()) - {*before}) and run.wait_for(delay)
    elif kind == "save":
        has_come = run.wait_until(lambda: any(run.models.glob(".iteration-*.pt.[0-9]*")))
    else:
        has_come = run.wait_until(lambda: len(run.members()) > 1)
        readers = [process for process in run.members() if process != run.process.pid]
        if has_come and readers:
            os.kill(readers[0], signal.SIGKILL)  # which ends the training, unless it has read all that it needs
            has_come = run.process.wait(PATIENCE) != 0
    if run.process.poll() is None:
        run.kill(whole_group=moments.random() < 0.5)
    return kind if has_come else ""


def test_a_run_that_is_killed_at_random_moments_is_the_run_that_was_never_killed(cohorts, tmp_path):
    moments = random.Random(SEED)
    expected = state(Run(tmp_path / "straight", cohorts))
    struck: list[str] = []
    rounds = 0
    while len(struck) < KILLS:
        rounds += 1
        run = Run(tmp_path / f"round{rounds}", cohorts)
        while len(struck) < KILLS and run.process.returncode != 0:
            struck += filter(None, [strike(run, moments)])
            if run.process.returncode != 0:
                run = Run(tmp_path / f"round{rounds}", cohorts)
        assert toy.same(state(run), expected), f"round {rounds}, after {struck}"
        left = [path.name for path in run.models.iterdir() if re.match(r"\.(iteration|model)", path.name)]
        assert left == [], "files of a killed save stay"
    print(f"{len(struck)} kills in {rounds} rounds: {struck}")


@pytest.mark.skipif(STEPS == 0, reason="takes minutes: make torture")
def test_the_memory_of_a_long_run_is_flat(cohorts, tmp_path):
    intervals = [f"--val_interval={STEPS // 10}", f"--save_interval={STEPS // 100}"]
    run = Run(tmp_path / "long", cohorts, f"--iterations={STEPS}", *intervals, "--keep=1")
    sizes: dict[str, int] = {}  # MiB by the state that was there

    def measure() -> None:
        if (states := run.states()) and states[-1].name not in sizes:
            sizes[states[-1].name] = sum(map(written_memory, run.members()))

    run.wait_until(measure, PATIENCE + 10 * STEPS)
    assert run.process.wait() == 0, run.log.read_text()
    assert len(sizes) >= 8, "states that were seen, of 100"
    second_half = [*sizes.values()][len(sizes) // 2 :]
    middle, last = min(second_half[:3]), min(second_half[-3:])
    print(f"{STEPS} steps: {middle} MiB in the middle, {last} MiB at the end")
    assert last - middle < GROWTH, sizes


def written_memory(process: int) -> int:
    """The memory of a process in MiB that no file backs, where shared pages count in parts.

    Libraries do not count: their part in each process depends on what else the machine runs.
    """
    try:
        report = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:  # it has ended meanwhile
        return 0
    return sum(map(int, re.findall(r"^Pss_(?:Anon|Shmem): +(\d+) kB", report, re.MULTILINE))) // 1024
