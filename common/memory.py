"""Memory and open files: huge pages, limits, a size check of crops, and one-line messages when memory runs out."""

import ctypes
import math
import os
import re
import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import ArgumentError, InputError, chain_of

FLOAT = 4  # bytes
FEWEST_FILES = 256  # a worker without a free file descriptor cannot send its batch, and the DataLoader waits forever
ON_GPU = r"OutOfMemoryError|CUDA (driver )?error: out of memory|CU\w+_STATUS_\w*ALLOC(ATION)?_FAILED"
ON_HOST = (  # messages of Python, PyTorch and oneDNN
    r"MemoryError|(can't allocate|not enough) memory|Cannot allocate memory|can't start new thread"
    r"|could not create a primitive(?! descriptor)|unable to (mmap|resize|.*</torch_)"
    r"|DataLoader worker .*(Killed|Bus error|exited unexpectedly)"
)

# messages of DataLoader workers, which pass batches through /dev/shm (by default 64 MB in a container)
IN_SHARED = r"Bus error|unable to .*(shared memory|</torch_)(?!.*Cannot allocate memory)"

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
    """Raise this process's limit of open files to 65,536 or the allowed maximum, which must be at least 256."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    if most < FEWEST_FILES:
        raise InputError(f"ulimit -n {most}", "too few open files", f"at least {FEWEST_FILES}")
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def peak_resident() -> float:
    """Return this process's peak resident memory in GiB.

    On Linux this is `VmHWM`, because a child's `ru_maxrss` starts at its parent's peak.
    """
    status = Path("/proc/self/status")
    match = re.search(r"^VmHWM:\s*(\d+) kB", status.read_text(), re.MULTILINE) if status.is_file() else None
    return (int(match[1]) if match else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / 2**20


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


def check_crops(options: Mapping[str, Any], views: int = 1) -> None:
    """Refuse a batch whose crops alone, in `views` views each, exceed the device's memory."""
    crops, channels = options.get("batch_size", 1) * views, len(options["modalities"])
    crop = channels * math.prod(options["patch_size"]) * FLOAT  # bytes
    memory = device_memory(options["device"])
    if crops * crop > memory:
        name = "patch_size" if crop > memory else "batch_size"
        raise ArgumentError(
            name,
            options[name],
            f"the crops alone ({crops:,}, {channels} channels, float32) take {crops * crop / 2**30:,.1f} GiB; "
            f"the device has {memory / 2**30:,.1f} GiB",
        )


def explain_out_of_memory(error: BaseException, options: Mapping[str, Any]) -> str | None:
    """Explain in one line that the GPU or host ran out of memory, and options that help; None for other exceptions."""
    for link in chain_of(error):
        text = f"{type(link).__name__}: {link}"
        if shared := re.search(rf".*({IN_SHARED}).*", text):
            return (
                "shared memory, /dev/shm, is full: set --num_workers=0 or fewer workers, or make it larger, as by "
                f"docker run --shm-size=8g ({shared[0].strip()[:200]})"
            )
        where = "GPU" if lacks_gpu_memory(link) else "host" if _is_on_host(link) else ""
        if where:
            lines = [line for line in text.splitlines() if re.search(f"{ON_GPU}|{ON_HOST}", line)] or [text]
            steps = ", or ".join(_saving_steps(where, options))
            return f"out of memory on the {where}: {steps} ({lines[-1].strip():.200})"
    return None


def _saving_steps(where: str, options: Mapping[str, Any]) -> list[str]:
    """List options that save memory on the GPU or the host, least intrusive first."""
    is_on_host, trains_here = where == "host", ("cuda" in str(options.get("device"))) == (where == "GPU")
    crops: Any = options.get("batch_size")
    least = 2 if "loss_weights" in options else options.get("crops_per_volume", 1)
    has_smaller = isinstance(crops, int) and crops > least
    names = ["batch_size"] * (has_smaller and not trains_here) + ["patch_size"]
    names += ["num_workers", "cache_rate"] * is_on_host
    reducible = [f"--{name}={_written(options[name])}" for name in names if options.get(name, 0) not in (0, 1)]
    total = has_smaller and (options.get("global_batch_size") or crops * int(os.environ.get("WORLD_SIZE", "1")))
    steps = {
        f"raise --spacing={_written(options.get('spacing'))}": is_on_host and options.get("spacing"),
        "set --activation_checkpointing=true": options.get("activation_checkpointing") is False,
        f"set --batch_size=auto --global_batch_size={total}": has_smaller and trains_here,
        "set --stitch_device=cpu": not is_on_host and options.get("stitch_device", "cpu") != "cpu",
        "set --window_batch_size=1": is_on_host and options.get("window_batch_size", 1) != 1,
        f"lower {' or '.join(reducible)}": reducible,
        "a machine with more memory is needed": not reducible,
    }
    return [step for step, applies in steps.items() if applies]


def _written(value: Any) -> str:
    return f"{value}".replace(" ", "")


def lacks_gpu_memory(error: BaseException) -> bool:
    """Return whether an exception reports that the GPU ran out of memory: PyTorch's, CUDA's, cuBLAS's or cuDNN's."""
    return re.search(ON_GPU, f"{type(error).__name__}: {error}") is not None


def lacks_host_memory(error: BaseException) -> bool:
    """Return whether an exception or one of its causes reports that the host ran out of memory."""
    return any(map(_is_on_host, chain_of(error)))


def _is_on_host(error: BaseException) -> bool:
    return not lacks_gpu_memory(error) and re.search(ON_HOST, f"{type(error).__name__}: {error}") is not None
