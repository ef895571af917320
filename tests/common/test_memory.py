"""The memory of a machine: what it holds, what is refused, and how running out of it is explained."""

import os
import resource
import signal
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from common.errors import ArgumentError
from common.memory import (
    cgroup_limits,
    check_crops,
    explain_out_of_memory,
    host_memory,
)

GIB = 2**30
TRAINING = {
    **{"modalities": ["T1", "FLAIR"], "patch_size": [96, 96, 96], "batch_size": 2, "device": "cuda:0"},
    **{"activation_checkpointing": False, "num_workers": 4, "cache_rate": 0.0, "ckpt_dir": "models"},
}
INFERENCE = {"patch_size": [96] * 3, "stitch_device": "cuda:0", "window_batch_size": 2, "device": "cuda:0"}


# What a machine holds


@pytest.mark.parametrize(
    ("membership", "files", "limits"),
    [
        (
            "0::/slurm/job_1\n",
            {"slurm/job_1/memory.max": "4096\n", "slurm/memory.max": "max\n", "memory.max": "8192\n"},
            [4096, 8192],
        ),
        ("2:memory:/docker/a\n", {"memory/docker/a/memory.limit_in_bytes": "4096\n"}, [4096]),  # the first version
        (None, {}, []),
    ],
)
def test_the_limits_of_all_control_groups_above_count(tmp_path, membership, files, limits):
    if membership:
        (tmp_path / "cgroup").write_text(membership)
    for name, content in files.items():
        path = tmp_path / "fs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    assert list(cgroup_limits(tmp_path / "fs", tmp_path / "cgroup")) == limits


def test_a_host_has_its_memory_or_less(monkeypatch):
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    physical, swap = (int(lines[name].split()[0]) * 1024 for name in ("MemTotal", "SwapTotal"))
    assert 0 < host_memory() <= physical + swap
    monkeypatch.setattr("common.memory.cgroup_limits", lambda: [2 * GIB])
    assert host_memory() == 2 * GIB + swap
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (GIB, GIB) if kind == resource.RLIMIT_AS else None)
    assert host_memory() == GIB


# What is refused


@pytest.fixture
def machine(monkeypatch):
    """A machine of 16 GiB with a GPU of 8 GiB."""
    monkeypatch.setattr("common.memory.host_memory", lambda: 16 * GIB)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda _: type("", (), {"total_memory": 8 * GIB}))


@pytest.mark.parametrize(("device", "memory"), [("cpu", 16), ("cuda:0", 8)])
def test_the_largest_batch_whose_crops_fit_passes(machine, device, memory):
    most = memory * GIB // torch.zeros(2, 96, 96, 96).nbytes
    options = TRAINING | {"device": device}
    check_crops(options | {"batch_size": most})
    check_crops(options | {"batch_size": most // 2}, views=2)
    with pytest.raises(ArgumentError, match=f"^batch_size={most + 1}: the crops alone, .* take {memory}.0 GiB"):
        check_crops(options | {"batch_size": most + 1})
    with pytest.raises(ArgumentError, match=f"batch_size={most}: "):
        check_crops(options | {"batch_size": most}, views=2)


def test_a_patch_that_no_memory_holds_is_named(machine):
    with pytest.raises(ArgumentError, match=r"^patch_size=\[9600, 960, 960\]: the crops alone, "):
        check_crops(TRAINING | {"patch_size": [9600, 960, 960]})


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
ON_GPU = "out of memory on the GPU, tried to allocate 20.00 GiB: "
LOWER = "lower --batch_size=2 or --patch_size=[96,96,96]"
LAST = "; models keeps the last state"


@pytest.fixture(autouse=True)
def saved(tmp_path, monkeypatch):
    """A state in the folder that `TRAINING` names."""
    monkeypatch.chdir(tmp_path)
    state = tmp_path / "models/iteration-0000001.pt"
    state.parent.mkdir()
    state.touch()
    return state


@pytest.mark.parametrize("is_there", [True, False])
def test_a_state_is_named_if_there_is_one(saved, is_there):
    if not is_there:
        saved.unlink()
    assert str(explain_out_of_memory(FULL, TRAINING)).endswith(LAST) == is_there


@pytest.mark.parametrize(
    ("error", "options", "line"),
    [
        (
            raised(allocation_that_fails),
            TRAINING | {"device": "cpu"},
            "out of memory on the host, tried to allocate 1,073,741,824.0 GiB: set --activation_checkpointing=true, or "
            f"{LOWER} or --num_workers=4{LAST}",
        ),
        (FULL, TRAINING, f"{ON_GPU}set --activation_checkpointing=true, or {LOWER}{LAST}"),
        (FULL, INFERENCE, f"{ON_GPU}set --stitch_device=cpu, or lower --window_batch_size=2"),
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "),
            TRAINING,
            "a process that reads data was killed, probably for lack of memory: lower --num_workers=4, or set it to 0, "
            f"so that the run itself reads{LAST}",
        ),
        (
            RuntimeError("can't start new thread"),
            TRAINING,
            "out of memory on the host, or at the limit on processes (ulimit -u): lower --num_workers=4 or "
            f"--batch_size=2{LAST}",
        ),
        (
            RuntimeError("could not create a primitive"),
            TRAINING,
            f"out of memory on the host: lower --num_workers=4 or --batch_size=2{LAST}",
        ),
        (RuntimeError("could not create a primitive descriptor"), TRAINING, None),
        (
            RuntimeError("can't allocate memory: you tried to allocate 3145728 bytes"),
            {},
            "out of memory on the host, tried to allocate 0.0 GiB: a machine with more memory is needed",
        ),
        (OSError(28, "No space left on device"), TRAINING, None),
    ],
)
def test_memory_that_a_run_lacks_is_explained(error, options, line):
    assert explain_out_of_memory(error, options) == line
    wrapper = RuntimeError("Failed to evaluate")
    wrapper.__cause__ = error
    assert explain_out_of_memory(wrapper, options) == line


def end_by_a_signal():
    os.kill(os.getpid(), signal.SIGKILL)


def test_memory_that_a_worker_lacks_and_its_death_are_explained():
    line = explain_out_of_memory(raised_by_a_worker(allocation_that_fails), TRAINING)
    assert line.startswith("out of memory on the host")
    assert line.endswith(f"lower --num_workers=4 or --batch_size=2{LAST}")
    line = explain_out_of_memory(raised_by_a_worker(end_by_a_signal), {"num_workers": 1})
    reader = "a process that reads data was killed, probably for lack of memory: lower --num_workers=1"
    assert line == f"{reader}, or set it to 0, so that the run itself reads"
