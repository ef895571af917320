"""The memory of a machine: what it holds, what is refused, and how running out of it is explained."""

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from common.baselines import segmentation_network
from common.errors import ArgumentError
from common.memory import cgroup_limits, check_crops, check_step, check_workers, explain_out_of_memory, host_memory
from tests.support import ROOT, one_line

GIB = 2**30
TRAINING = {
    **{"modalities": ["T1", "FLAIR"], "patch_size": [96, 96, 96], "batch_size": 2, "device": "cuda:0"},
    **{"activation_checkpointing": False, "num_workers": 4, "cache_rate": 0.0, "ckpt_dir": "models"},
}
INFERENCE = {
    "patch_size": [96, 96, 96],
    "stitch_device": "cuda:0",
    "window_batch_size": 2,
    "device": "cuda:0",
    "num_workers": 4,
}


# What a machine holds


@pytest.fixture
def cgroups(tmp_path):
    """Writes a tree of control groups; returns the limits that its process has."""

    def limits(membership, files):
        (tmp_path / "cgroup").write_text(membership)
        for name, content in files.items():
            path = tmp_path / "fs" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return list(cgroup_limits(tmp_path / "fs", tmp_path / "cgroup"))

    return limits


def test_the_limits_of_all_control_groups_above_count(cgroups):
    files = {"slurm/job_1/memory.max": "4096\n", "slurm/memory.max": "max\n", "memory.max": "8192\n"}
    assert cgroups("0::/slurm/job_1\n", files) == [4096, 8192]


def test_a_control_group_of_the_first_version_counts(cgroups):
    files = {"memory/docker/a/memory.limit_in_bytes": "4096\n", "memory/memory.limit_in_bytes": "9223372036854771712\n"}
    assert min(cgroups("3:cpu:/docker/a\n2:memory:/docker/a\n", files)) == 4096


def test_a_machine_without_control_groups_has_no_such_limit(tmp_path):
    assert list(cgroup_limits(tmp_path, tmp_path / "cgroup")) == []


def test_a_host_has_its_memory_or_less():
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    physical, swap = (int(lines[name].split()[0]) * 1024 for name in ("MemTotal", "SwapTotal"))
    assert 0 < host_memory() <= physical + swap


def test_a_limit_of_the_process_counts():
    code = "import resource; resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30)); " \
           "from common.memory import host_memory; print(host_memory())"  # fmt: skip
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(ended.stdout) == 3 * GIB
    assert resource.getrlimit(resource.RLIMIT_AS)[0] != 3 * GIB


# What is refused


def test_absurd_numbers_of_workers_are_refused(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    check_workers(64)
    with pytest.raises(ArgumentError) as error:
        check_workers(65)
    line = "num_workers=65: expected at most 64: 64, or 4 for each CPU if that is more; 2 CPUs here"
    assert one_line(error) == line
    monkeypatch.setattr("os.cpu_count", lambda: 128)
    check_workers(512)
    with pytest.raises(ArgumentError, match="num_workers=513: expected at most 512"):
        check_workers(513)


@pytest.fixture
def machine(monkeypatch):
    """A machine of 16 GiB with a GPU of 8 GiB."""
    monkeypatch.setattr("common.memory.host_memory", lambda: 16 * GIB)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda _: type("", (), {"total_memory": 8 * GIB}))


@pytest.mark.parametrize(("device", "memory"), [("cpu", 16), ("cuda:0", 8)])
def test_the_largest_batch_whose_crops_fit_passes(machine, device, memory):
    crop = torch.zeros(2, 96, 96, 96).nbytes
    most = memory * GIB // crop
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


# What is explained


def allocation_that_fails():
    torch.empty(2**60, dtype=torch.uint8)


class Volumes(Dataset):
    def __init__(self, error=None):
        self.error = error

    def __len__(self):
        return 1

    def __getitem__(self, index):
        if self.error is not None:
            raise self.error
        allocation_that_fails()


def raised(call):
    with pytest.raises(Exception) as error:  # noqa: PT011, each test has another
        call()
    return error.value


def test_a_cpu_that_cannot_allocate_is_explained():
    line = explain_out_of_memory(raised(allocation_that_fails), TRAINING | {"device": "cpu"})
    assert line == (
        "out of memory on the host, 1,073,741,824.0 GiB more asked for: set --activation_checkpointing=true, or lower "
        "--batch_size=2 or --patch_size=[96,96,96] or --num_workers=4; models keeps the last state"
    )


def test_an_array_that_cannot_be_allocated_is_explained():
    import numpy as np

    line = explain_out_of_memory(raised(lambda: np.empty(2**60, np.uint8)), {})
    assert line == "out of memory on the host, 1.00 EiB more asked for: a machine with more memory is needed"


def test_a_gpu_that_is_full_is_explained():
    error = torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 8 GiB"
    )
    assert explain_out_of_memory(error, TRAINING) == (
        "out of memory on the GPU, 20.00 GiB more asked for: set --activation_checkpointing=true, or lower "
        "--batch_size=2 or --patch_size=[96,96,96]; models keeps the last state"
    )
    assert explain_out_of_memory(error, INFERENCE) == (
        "out of memory on the GPU, 20.00 GiB more asked for: set --stitch_device=cpu, or lower --window_batch_size=2"
    )
    assert "activation_checkpointing" not in explain_out_of_memory(error, TRAINING | {"architecture": "segresnet"})


def test_memory_that_a_worker_lacks_is_explained():
    lines = [
        explain_out_of_memory(raised(lambda e=e: next(iter(DataLoader(Volumes(e), num_workers=1)))), TRAINING)
        for e in (None, MemoryError())
    ]
    for line in lines:
        assert line.startswith("out of memory on the host")
        assert line.endswith("lower --num_workers=4 or --batch_size=2; models keeps the last state")


@pytest.mark.parametrize(
    "signal", ["Killed", "Bus error. It is possible that dataloader's workers are out of shared memory"]
)
def test_a_worker_that_the_kernel_killed_is_explained(signal):
    error = RuntimeError(f"DataLoader worker (pid 7) is killed by signal: {signal}. ")
    assert explain_out_of_memory(error, TRAINING).startswith("out of memory on the host: lower --num_workers=4")


def test_the_cause_is_found_below_wrappers():
    error = RuntimeError("Failed to evaluate")
    error.__cause__ = raised(allocation_that_fails)
    assert explain_out_of_memory(error, {}).startswith("out of memory on the host")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("memory"),
        RuntimeError("DataLoader worker (pid 7) is killed by signal: Terminated."),
        OSError(28, "No space left on device"),
    ],
)
def test_other_exceptions_are_not_explained(error):
    assert explain_out_of_memory(error, TRAINING) is None


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
    with pytest.raises(ArgumentError) as error:
        check_step(TwoLayers(), options | {"batch_size": most + 1}, dtype, views)
    assert re.match(rf"batch_size={most + 1}: a step keeps [\d.]+ GiB for its backward pass; ", one_line(error))
    assert "set --activation_checkpointing=true, or lower --batch_size=" in one_line(error)
    check_step(TwoLayers(), options | {"batch_size": most + 1, "compile": True}, dtype, views)


def test_a_patch_whose_step_cannot_fit_is_named(machine):
    with pytest.raises(ArgumentError, match=r"^patch_size=\[960, 960, 960\]: a step keeps "):
        check_step(TwoLayers(), TRAINING | {"patch_size": [960] * 3}, torch.float32)


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
    monkeypatch.setattr("common.memory.host_memory", lambda: int(real * 0.95))
    options = TRAINING | {"modalities": ["T1"], "patch_size": [64] * 3, "batch_size": 1, "device": "cpu"}
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
tensor = torch.ones(2**25)  # 128 MiB
names = {}
for line in Path("/proc/self/smaps").read_text().splitlines():
    words = line.split()
    if "-" in words[0] and ":" not in words[0]:
        low, high = (int(edge, 16) for edge in words[0].split("-"))
        holds, name = low <= tensor.data_ptr() + 2**26 < high, words[-1]
    elif words[0] == "VmFlags:" and holds:
        print("huge" if "hg" in words else "small", "heap" if name == "[heap]" else "own")
"""


@pytest.mark.skipif("CS_GNU_LIBC_VERSION" not in os.confstr_names, reason="glibc's settings")
@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "huge heap"),
        ({"THP_MEM_ALLOC_ENABLE": "0"}, "small own"),
        ({"MALLOC_MMAP_THRESHOLD_": str(2**20)}, "huge own"),
    ],
)
def test_tensors_get_huge_pages_that_are_kept_unless_the_environment_says_otherwise(environment, expected):
    """PyTorch and MONAI are imported first, as by MONAI's command."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("THP_", "MALLOC_"))}
    ended = subprocess.run(
        [sys.executable, "-c", PAGES],
        cwd=ROOT,
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout == f"{expected}\n"
