"""Memory and open files: huge pages, limits, free memory."""

import ctypes
import os
import re
import resource
from pathlib import Path
from typing import Any

FLOAT = 4  # bytes

# Environment variable -> mallopt's parameter and value: heap for blocks up to 256 MiB, of which 512 MiB stay when free
MALLOC = {"MALLOC_MMAP_THRESHOLD_": (-3, 2**28), "MALLOC_TRIM_THRESHOLD_": (-1, 2**29)}


def use_huge_pages() -> None:
    """Let PyTorch allocate huge pages and glibc keep freed memory, in this process and its forks.

    Call this before the first tensor is created; see docs/reference/training.md. Environment variables take precedence
    (`THP_MEM_ALLOC_ENABLE=0` disables both). Without glibc, nothing changes.
    """
    if "CS_GNU_LIBC_VERSION" not in os.confstr_names or not os.confstr("CS_GNU_LIBC_VERSION"):
        return
    if os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1") == "0":
        return
    libc = ctypes.CDLL(None)
    for name, (parameter, value) in MALLOC.items():
        if name not in os.environ:
            libc.mallopt(parameter, value)


def use_open_files() -> None:
    """Raise this process's limit of open files to 65,536 or the allowed maximum: DataLoader workers need many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def peak_resident() -> float:
    """Return this process's peak resident memory in GiB; `ru_maxrss` would start at its parent's peak."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"^VmHWM:\s*(\d+) kB", status, re.MULTILINE)[0]) / 2**20


def device_memory(device: Any) -> int:
    """Return a device's total memory in bytes; for a CPU, the machine's physical memory."""
    import torch  # imported here because it is slow

    if torch.device(device).type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def free_memory(device: Any = "cpu") -> int:
    """Return a device's free memory in bytes; for a CPU, the least of the host's and of this process's cgroups."""
    import torch  # imported here because it is slow

    if torch.device(device).type == "cuda":  # the driver's free memory, and PyTorch's unused reserve
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    status, bounds = Path("/proc/meminfo"), [device_memory("cpu")]
    if status.is_file():
        sizes = re.findall(r"^MemAvailable:\s*(\d+) kB", status.read_text(), re.MULTILINE)
        bounds += [1024 * int(size) for size in sizes]
    return min(bounds + free_in_cgroups(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")))


def free_in_cgroups(membership: Path, root: Path) -> list[int]:
    """Return the free bytes in each cgroup (version 2) that limits this process, such as a container's or SLURM job's.

    `membership` is the file that lists the process's cgroups, `root` the mount point of cgroups. Inactive page cache
    counts as free.
    """
    paths = re.findall(r"^0::/(.*)$", membership.read_text(), re.MULTILINE) if membership.is_file() else []
    free = []
    for folder in {parent for path in paths for parent in (root / path, *(root / path).parents)}:
        most = folder / "memory.max"
        if folder.is_relative_to(root) and most.is_file() and (limit := most.read_text().strip()).isdecimal():
            cache = re.findall(r"^inactive_file (\d+)$", (folder / "memory.stat").read_text(), re.MULTILINE)
            free.append(int(limit) - int((folder / "memory.current").read_text()) + sum(map(int, cache)))
    return free
