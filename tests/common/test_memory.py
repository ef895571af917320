"""Memory and open files: limits, refused crops, and messages when memory runs out."""

import os
import signal
import subprocess
import sys

import pytest
import torch
from torch.utils.data import DataLoader

from common.memory import (
    device_memory,
    explain_out_of_memory,
    free_in_cgroups,
    free_memory,
    lacks_host_memory,
)

GIB = 2**30
TRAINING = {
    **{"modalities": ["T1", "FLAIR"], "patch_size": [96, 96, 96], "batch_size": 2, "device": "cuda:0"},
    **{"activation_checkpointing": False, "num_workers": 4, "cache_rate": 0.0, "ckpt_dir": "models"},
}
PRETRAINING = {"patch_size": [96] * 3, "batch_size": 2, "loss_weights": [1, 1, 1], "device": "cuda:0"}
INFERENCE = {"patch_size": [96] * 3, "stitch_device": "auto", "window_batch_size": "auto", "device": "cuda:0"}


# What is refused


@pytest.fixture
def machine(monkeypatch):
    """A machine of 16 GiB with a GPU of 8 GiB."""
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 16 * GIB // 4096}.get)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda _: type("", (), {"total_memory": 8 * GIB}))


@pytest.mark.parametrize(
    ("limit", "last"),
    [
        ("ulimit -Sn 300 && ulimit -Hn 400", "400 400"),
        ("ulimit -n 60", "common.errors.InputError: ulimit -n 60: too few open files; expected at least 256"),
    ],
)
def test_as_many_files_as_the_machine_allows_can_be_open(limit, last):
    code = "import resource; from common.memory import use_open_files; use_open_files(); print(*resource.getrlimit(7))"
    shell = ["bash", "-c", f'{limit} && "$0" -c "$1" 2>&1', sys.executable, code]
    assert subprocess.run(shell, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1] == last


# What is explained


def allocation_that_fails():
    torch.empty(2**60, dtype=torch.uint8)


def raised(call):
    with pytest.raises(Exception) as error:  # noqa: PT011, each test has another
        call()
    return error.value


def raised_by_a_worker(read):
    return raised(lambda: next(iter(DataLoader([0], num_workers=1, collate_fn=lambda _: read()))))


FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 8 GiB")
WORKERS = "lower --batch_size=2 or --patch_size=[96,96,96] or --num_workers=4"
ON_HOST = f"set --activation_checkpointing=true, or {WORKERS}"
ON_GPU = "set --activation_checkpointing=true, or set --batch_size=auto --global_batch_size="
SMALLER = "lower --patch_size=[96,96,96]"


FEWER, SHARED = "or fewer workers, or make it larger, as by docker run --shm-size=8g", "RuntimeError: "


@pytest.mark.parametrize(
    ("error", "options", "line"),
    [
        (
            FULL,
            TRAINING,
            f"out of memory on the GPU: {ON_GPU}2, or {SMALLER} (OutOfMemoryError: CUDA",
        ),
        (FULL, TRAINING | {"global_batch_size": 8}, f"out of memory on the GPU: {ON_GPU}8, or {SMALLER} (Out"),
        (
            FULL,
            TRAINING | {"batch_size": "auto", "activation_checkpointing": True},
            f"out of memory on the GPU: {SMALLER} (",
        ),
        (FULL, PRETRAINING, f"out of memory on the GPU: {SMALLER} (Out"),
        (FULL, INFERENCE, f"out of memory on the GPU: set --stitch_device=cpu, or {SMALLER} (OutOfMem"),
        (FULL, INFERENCE | {"stitch_device": "cpu"}, f"out of memory on the GPU: {SMALLER} (OutOfMem"),
        (MemoryError(), INFERENCE, f"out of memory on the host: set --window_batch_size=1, or {SMALLER} (MemoryError"),
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "),
            TRAINING,
            f"out of memory on the host: {ON_HOST} (RuntimeError: DataLoader worker (pid 7) is killed by ",
        ),
        (
            RuntimeError("unable to mmap 9 bytes from file </torch_1>: Cannot allocate memory"),
            {},
            "out of memory on the h",
        ),
        *(
            (
                RuntimeError(text),
                TRAINING,
                f"shared memory, /dev/shm, is full: set --num_workers=0 {FEWER} ({SHARED}{text}",
            )
            for text in (
                "unable to resize file </torch_1> to the right size: No space left on device (28)",
                "unable to write to file </torch_1>: No space left on device (28)",
                "unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)",
                "unable to open shared memory object </torch_1> in read-write mode: No space left on device (28)",
                "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that",
            )
        ),
        (RuntimeError("could not create a primitive descriptor"), TRAINING, None),
        (MemoryError(), {"spacing": [0.1, 1]}, "out of memory on the host: raise --spacing=[0.1,1], or a machine with"),
        (MemoryError(), {}, "out of memory on the host: a machine with more memory is needed (MemoryError:)"),
        (OSError(28, "No space left on device"), TRAINING, None),
    ],
)
def test_memory_that_a_run_lacks_is_explained(error, options, line):
    wrapper = RuntimeError("Failed to evaluate")
    wrapper.__cause__ = error
    for link in (error, wrapper):
        message = explain_out_of_memory(link, options)
        assert message is None if line is None else message.startswith(line)


def test_the_global_batch_to_keep_counts_all_processes(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert "--global_batch_size=6," in explain_out_of_memory(FULL, TRAINING)


def end_by_a_signal():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("fail", [allocation_that_fails, end_by_a_signal])
def test_memory_that_a_worker_lacks_and_its_death_are_explained(fail):
    error = raised_by_a_worker(fail)
    assert explain_out_of_memory(error, TRAINING).startswith(f"out of memory on the host: {ON_HOST} (")
    assert lacks_host_memory(error)


def test_free_memory_is_a_part_of_the_machines():
    assert 2**20 < free_memory() < device_memory("cpu")


def test_the_limits_of_a_slurm_job_and_of_its_parents_count(tmp_path):
    membership, job = tmp_path / "cgroup", tmp_path / "root/slurmstepd.scope/job_7"
    (job / "step_0").mkdir(parents=True)
    membership.write_text("4:memory:/other\n0::/slurmstepd.scope/job_7/step_0\n")
    for folder, limit, cache in ((job, "5000", 300), (job / "step_0", "max", 0), (tmp_path, "1", 0)):
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text("4000\n")
        (folder / "memory.stat").write_text(f"anon 9\ninactive_file {cache}\n")
    assert free_in_cgroups(membership, tmp_path / "root") == [1300]
