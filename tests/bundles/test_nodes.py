"""Trainings in processes of their own: killed or stopped by a signal, then resumed."""

import json
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
import torch

from common.training.handlers import PREEMPTED
from scripts.quickstart import ENVIRONMENT
from tests.common import toy
from tests.support import ROOT, TINY

BUNDLE = "ukb_ssl_pretrain"
LENGTH = ["--iterations=6", "--val_interval=6", "--save_interval=2"]
TWO = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "--signals-to-handle=SIGTERM,SIGUSR1"]


@pytest.fixture(scope="module")
def start(cohorts):
    """Function: start a training of ukb_ssl_pretrain in its own process group, which ends with the module's tests.

    `launcher` is the list of Python's arguments before `-m monai.bundle`.
    """
    started = []

    def start(folder, launcher, *options):
        data = [f"--dataset_dir={cohorts / 'ukb'}", f"--datalist={cohorts / 'ukb'}.json"]
        places = [f"--output_dir={folder}", f"--ckpt_dir={folder / 'models'}"]
        overlay = "['configs/train.yaml','configs/multi_gpu_train.yaml']" if launcher else "configs/train.yaml"
        program = [sys.executable, *launcher, "-m", "monai.bundle", "run", f"--config_file={overlay}"]
        with folder.with_suffix(".log").open("a") as log:
            process = subprocess.Popen(
                [*program, *data, *places, *TINY, *options],
                cwd=ROOT / "bundles" / BUNDLE,
                env=os.environ | ENVIRONMENT | {"OMP_NUM_THREADS": "1"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def finish(folder, process):
    """The last state of a run, without times."""
    assert process.wait(timeout=600) == 0, folder.with_suffix(".log").read_text()
    return toy.state_of(folder / "models/iteration-0000006.pt")


@pytest.mark.slow
def test_a_killed_training_ends_as_one_that_was_never_killed(start, tmp_path):
    """Killed at random moments, with two processes that read; it resumes from the last state."""
    options = [*LENGTH, "--save_interval=1", "--val_interval=3", "--num_workers=2", "--resume=auto"]
    expected = finish(tmp_path / "straight", start(tmp_path / "straight", [], *options))
    folder, moments = tmp_path / "killed", random.Random(0)
    for _ in range(2):
        run, before = start(folder, [], *options), {*folder.glob("models/iteration-*.pt")}
        while run.poll() is None and not {*folder.glob("models/iteration-*.pt")} - before:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 1))
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    assert toy.same(finish(folder, start(folder, [], *options)), expected)
    assert not [path for path in (folder / "models").iterdir() if re.match(r"\.(iteration|model)", path.name)]


@pytest.mark.slow
def test_two_processes_that_are_told_save_and_go_on_to_the_bit_or_with_another_number(start, tmp_path):
    """The agent forwards the signal, and exits with status 1: docs/reference/training.md."""
    options, folder = [*LENGTH, "--global_batch_size=4", "--gather_negatives=true"], tmp_path / "told"
    straight = tmp_path / "straight"
    expected = finish(straight, start(straight, TWO, *options))
    record, ranks = json.loads((straight / "run.json").read_text()), expected["ranks"]
    assert (record["world_size"], record["finished"]) == (2, True)
    assert not torch.equal(ranks[0]["random"]["torch"], ranks[1]["random"]["torch"]), "each draws its own numbers"
    network = torch.load(straight / "models/model.pt", weights_only=True)["network"]
    assert not any(key.startswith("module.") for key in network)
    assert len(list(straight.glob("tensorboard/curves/*"))) == 1, "one rank writes"
    assert straight.with_suffix(".log").read_text().count("weights: from scratch") == 1, "one rank prints"
    run = start(folder, TWO, *options)
    while not (folder / "models/iteration-0000002.pt").exists():
        assert run.poll() is None, folder.with_suffix(".log").read_text()
        time.sleep(0.05)
    run.send_signal(signal.SIGUSR1)
    assert run.wait(timeout=600) == 1
    log = folder.with_suffix(".log")
    assert f"SIGUSR1: saved {folder}/models/iteration-" in log.read_text()
    assert f"status {PREEMPTED}" in log.read_text()
    kept = {file.name: file.read_bytes() for file in folder.glob("models/*.pt")}
    assert toy.same(finish(folder, start(folder, TWO, *options, "--resume=true")), expected)

    for file in folder.glob("models/*.pt"):
        file.unlink()
    for name, content in kept.items():
        (folder / "models" / name).write_bytes(content)
    alone = finish(folder, start(folder, [], *options, "--resume=true"))
    assert "resume: saved by 2 processes, now 1" in log.read_text()
    assert len(alone["ranks"]) == 1


def test_a_signal_to_the_processes_that_read_data_does_not_end_them(tmp_path, monkeypatch):
    """SLURM signals every process of a run; without its data workers, a run could not finish its iteration."""

    def signal_all():
        processes = [*multiprocessing.active_children(), multiprocessing.current_process()]
        assert len(processes) == 3
        pids = [str(process.pid) for process in processes]
        subprocess.run(["kill", *pids], check=True)  # a process of its own: workers obey the one that they read for

    monkeypatch.setattr(toy, "DataLoader", partial(toy.DataLoader, num_workers=2))
    with pytest.raises(SystemExit) as ended:
        toy.Training(tmp_path, 20, save_interval=100, at_iteration=(5, signal_all))
    assert ended.value.code == PREEMPTED
    assert (tmp_path / "models/iteration-0000005.pt").is_file()
