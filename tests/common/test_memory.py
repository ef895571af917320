"""The memory of a machine: what it holds, what is refused, and how running out of it is explained."""

import ctypes
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from common.baselines import segmentation_network
from common.errors import ArgumentError
from common.memory import (
    cgroup_limits,
    check_crops,
    check_step,
    check_workers,
    explain_out_of_memory,
    host_memory,
    use_huge_pages,
)
from tests.support import ROOT, one_line

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
        (
            "3:cpu:/docker/a\n2:memory:/docker/a\n",  # of the first version
            {
                "memory/docker/a/memory.limit_in_bytes": "4096\n",
                "memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            [4096, 9223372036854771712],
        ),
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


@pytest.mark.parametrize(("cpus", "most"), [(2, 64), (128, 512)])
def test_absurd_numbers_of_workers_are_refused(monkeypatch, cpus, most):
    monkeypatch.setattr("os.cpu_count", lambda: cpus)
    check_workers(most)
    with pytest.raises(ArgumentError) as error:
        check_workers(most + 1)
    line = f"num_workers={most + 1}: expected at most {most}: 64, or 4 for each CPU if that is more; {cpus} CPUs here"
    assert one_line(error) == line


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
    with pytest.raises(ArgumentError) as error:
        check_crops(options | {"batch_size": most + 1})
    assert one_line(error) == (
        f"batch_size={most + 1}: the crops alone, {most + 1:,} of 2 channels in float32, take {memory}.0 GiB; "
        f"this machine has {memory}.0 GiB"
    )
    with pytest.raises(ArgumentError, match=f"batch_size={most}: "):
        check_crops(options | {"batch_size": most}, views=2)


def test_a_patch_that_no_memory_holds_is_named(machine):
    with pytest.raises(ArgumentError, match=r"^patch_size=\[3200, 3200, 3200\]: the crops alone, 1 of 2 channels"):
        check_crops({"modalities": ["T1", "T2"], "patch_size": [3200] * 3, "device": "cpu"})
    with pytest.raises(ArgumentError, match=r"^patch_size=\[960, 960, 960\]: a step keeps "):
        check_step(TwoLayers(), TRAINING | {"patch_size": [960] * 3}, torch.float32)


# What is explained


def allocation_that_fails():
    torch.empty(2**60, dtype=torch.uint8)


class Volumes(Dataset):
    """Of one volume, which cannot be read."""

    def __init__(self, read):
        self.read = read

    def __len__(self):
        return 1

    def __getitem__(self, index):
        self.read()


def raised(call):
    with pytest.raises(Exception) as error:  # noqa: PT011, each test has another
        call()
    return error.value


def raised_by_a_worker(read):
    return raised(lambda: next(iter(DataLoader(Volumes(read), num_workers=1))))


FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 8 GiB")
ON_GPU = "out of memory on the GPU, 20.00 GiB more asked for: "
LOWER = "lower --batch_size=2 or --patch_size=[96,96,96]"
LAST = "; models keeps the last state"


@pytest.mark.parametrize(
    ("error", "options", "line"),
    [
        (
            raised(allocation_that_fails),
            TRAINING | {"device": "cpu"},
            "out of memory on the host, 1,073,741,824.0 GiB more asked for: set --activation_checkpointing=true, or "
            f"{LOWER} or --num_workers=4{LAST}",
        ),
        (
            raised(lambda: np.empty(2**60, np.uint8)),
            {},
            "out of memory on the host, 1.00 EiB more asked for: a machine with more memory is needed",
        ),
        (FULL, TRAINING, f"{ON_GPU}set --activation_checkpointing=true, or {LOWER}{LAST}"),
        (FULL, TRAINING | {"architecture": "segresnet"}, f"{ON_GPU}{LOWER}{LAST}"),
        (FULL, INFERENCE, f"{ON_GPU}set --stitch_device=cpu, or lower --window_batch_size=2"),
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "),
            TRAINING,
            f"out of memory on the host: lower --num_workers=4 or --batch_size=2{LAST}",
        ),
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that"),
            {},
            "out of memory on the host: a machine with more memory is needed",
        ),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Terminated."), TRAINING, None),
        (ValueError("memory"), TRAINING, None),
        (OSError(28, "No space left on device"), TRAINING, None),
    ],
)
def test_memory_that_a_run_lacks_is_explained(error, options, line):
    assert explain_out_of_memory(error, options) == line
    wrapper = RuntimeError("Failed to evaluate")
    wrapper.__cause__ = error
    assert explain_out_of_memory(wrapper, options) == line


def end_by_a_signal():
    os.kill(os.getpid(), signal.SIGXCPU)


def lack_memory():
    raise MemoryError


def test_memory_that_a_worker_lacks_and_its_death_are_explained():
    for read in (allocation_that_fails, lack_memory):
        line = explain_out_of_memory(raised_by_a_worker(read), TRAINING)
        assert line.startswith("out of memory on the host")
        assert line.endswith(f"lower --num_workers=4 or --batch_size=2{LAST}")
    line = explain_out_of_memory(raised_by_a_worker(end_by_a_signal), {"num_workers": 1})
    change = "lower --num_workers=1, or set it to 0, so that the run itself reads"
    assert line == f"a process that reads data was killed by SIGXCPU: {change}"


# A step


class TwoLayers(torch.nn.Module):
    """Keeps its input and the output of its first layer, a float32 for each voxel and channel; its pooling an index."""

    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Conv3d(2, 6, 1), torch.nn.Conv3d(6, 1, 1)
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, crops):
        return self.dropout(self.second(self.first(crops)))


KEPT = 96**3 * (2 + 6) * 4  # bytes that TwoLayers keeps of a crop


@pytest.mark.parametrize(
    ("most", "views", "dtype", "device"),
    [
        (8 * GIB // KEPT, 1, torch.float32, "cuda:0"),
        (16 * GIB // KEPT, 1, torch.float32, "cpu"),
        (8 * GIB // KEPT // 2, 2, torch.float32, "cuda:0"),
        (8 * GIB // (KEPT // 2), 1, torch.bfloat16, "cuda:0"),
    ],
)
def test_the_largest_batch_whose_step_may_fit_passes(machine, most, views, dtype, device):
    options = TRAINING | {"device": device}
    check_step(TwoLayers(), options | {"batch_size": most}, dtype, views)
    with pytest.raises(ArgumentError, match=rf"^batch_size={most + 1}: a step keeps [\d.]+ GiB for its ") as error:
        check_step(TwoLayers(), options | {"batch_size": most + 1}, dtype, views)
    assert "set --activation_checkpointing=true, or lower --batch_size=" in one_line(error)
    check_step(TwoLayers(), options | {"batch_size": most + 1, "compile": True}, dtype, views)


@pytest.mark.parametrize("name", ["swin_unetr", "swin_unetr_v2", "segresnet", "transbts"])
def test_a_network_keeps_what_is_counted(machine, name, monkeypatch):
    """The count is what autograd holds of a real pass, but for 5 %; the network is as it was."""
    network = segmentation_network(name, 1, 1, "micro", [64, 64, 64])
    before, state = {key: value.clone() for key, value in network.state_dict().items()}, torch.get_rng_state()
    held = {}
    network.eval()
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: held.setdefault(tensor.untyped_storage().data_ptr(), tensor), lambda tensor: tensor
    ):
        output = network(torch.zeros(1, 1, 64, 64, 64))
    assert output.requires_grad
    network.train()
    own = {tensor.untyped_storage().data_ptr() for tensor in network.state_dict().values()}
    real = sum(tensor.untyped_storage().nbytes() for number, tensor in held.items() if number not in own)
    options = TRAINING | {"modalities": ["T1"], "patch_size": [64] * 3, "batch_size": 1, "device": "cpu"}
    monkeypatch.setattr("common.memory.host_memory", lambda: int(real * 0.95))
    with pytest.raises(ArgumentError):
        check_step(network, options, torch.float32)
    monkeypatch.setattr("common.memory.host_memory", lambda: int(real * 1.05))
    check_step(network, options, torch.float32)
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


PAGES = """
import torch, monai, common
from pathlib import Path
from types import SimpleNamespace
tensor = torch.ones(2**25)  # 128 MiB
for line in Path("/proc/self/smaps").read_text().splitlines():
    words = line.split()
    if "-" in words[0] and ":" not in words[0]:
        low, high = (int(edge, 16) for edge in words[0].split("-"))
        holds, name = low <= tensor.data_ptr() + 2**26 < high, words[-1]
    elif words[0] == "VmFlags:" and holds:
        print("huge" if "hg" in words else "small", "heap" if name == "[heap]" else "own")
"""
SETTINGS = ("THP_MEM_ALLOC_ENABLE", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")


@pytest.mark.skipif("CS_GNU_LIBC_VERSION" not in os.confstr_names, reason="glibc's settings")
def test_tensors_get_huge_pages_that_are_kept():
    """PyTorch and MONAI are imported first, as by MONAI's command."""
    environment = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    command = [sys.executable, "-c", PAGES]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert ended.stdout == "huge heap\n"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        (None, None, [(-3, 2**28), (-1, 2**29)]),
        ("THP_MEM_ALLOC_ENABLE", "0", []),
        ("MALLOC_MMAP_THRESHOLD_", "1048576", [(-1, 2**29)]),
    ],
)
def test_what_the_environment_says_of_pages_stays(monkeypatch, name, value, expected):
    for setting in SETTINGS:
        monkeypatch.delenv(setting, raising=False)
    if name:
        monkeypatch.setenv(name, value)
    given = []
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace(mallopt=lambda *setting: given.append(setting)))
    use_huge_pages()
    assert given == expected
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == ("0" if expected == [] else "1")
