"""The machine's limits: huge pages, open files, crops that cannot fit, and one line when memory runs out."""

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
FEWEST_FILES = 256  # PyTorch's loaders wait for ever for what a process without a free file descriptor cannot send
ON_GPU = r"OutOfMemoryError|CUDA error: out of memory|CU\w+_STATUS_ALLOC_FAILED"
ON_HOST = (  # words of Python, PyTorch and oneDNN
    r"MemoryError|(can't allocate|not enough) memory|Cannot allocate memory|can't start new thread"
    r"|could not create a primitive(?! descriptor)|unable to (mmap|resize|.*</torch_)"
    r"|DataLoader worker .*(Killed|Bus error|exited unexpectedly)"
)

# words of PyTorch's loaders, which hand batches over in /dev/shm, 64 MB in a container by default
IN_SHARED = r"Bus error|unable to .*(shared memory|</torch_)(?!.*Cannot allocate memory)"

# glibc's parameters of mallopt and their variables: blocks up to 256 MiB come from the heap, which keeps 512 MiB free
KEPT = {"MALLOC_MMAP_THRESHOLD_": (-3, 2**28), "MALLOC_TRIM_THRESHOLD_": (-1, 2**29)}


def use_huge_pages() -> None:
    """Let PyTorch allocate huge pages, and glibc keep freed memory, in this process and its forks.

    See docs/reference/training.md. Call it before the first tensor is made. Variables of the environment take
    precedence (`THP_MEM_ALLOC_ENABLE=0` disables all); without glibc nothing changes.
    """
    if "CS_GNU_LIBC_VERSION" not in os.confstr_names or not os.confstr("CS_GNU_LIBC_VERSION"):
        return
    if os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1") == "0":
        return
    libc = ctypes.CDLL(None)
    for name, (parameter, value) in KEPT.items():
        if name not in os.environ:
            libc.mallopt(parameter, value)


def use_open_files() -> None:
    """Raise this process's limit of open files to the highest that the machine allows, which may be too low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    if most < FEWEST_FILES:
        raise InputError(f"ulimit -n {most}", "too few open files", f"at least {FEWEST_FILES}")
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def peak_resident() -> float:
    """Peak resident memory of this process, in GiB.

    `VmHWM` is read because Linux starts a child's `ru_maxrss` at its parent's peak.
    """
    status = Path("/proc/self/status")
    found = re.search(r"^VmHWM:\s*(\d+) kB", status.read_text(), re.MULTILINE) if status.is_file() else None
    return (int(found[1]) if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / 2**20


def device_memory(device: Any) -> int:
    """Memory of a device in bytes; for a CPU, the machine's physical memory."""
    import torch  # imported here because it is slow

    if torch.device(device).type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def free_memory(device: Any = "cpu") -> int:
    """Bytes of free memory of a device; for a CPU, within the limit of a container."""
    import torch  # imported here because it is slow

    if torch.device(device).type == "cuda":  # what the driver has left, and what PyTorch keeps and does not use
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    status, found = Path("/proc/meminfo"), [device_memory("cpu")]
    if status.is_file():
        found += [
            1024 * int(each) for each in re.findall(r"^MemAvailable:\s*(\d+) kB", status.read_text(), re.MULTILINE)
        ]
    most, taken = (Path("/sys/fs/cgroup", name) for name in ("memory.max", "memory.current"))
    if most.is_file() and (limit := most.read_text().strip()).isdecimal():
        found.append(int(limit) - int(taken.read_text()))
    return min(found)


def check_crops(options: Mapping[str, Any], views: int = 1) -> None:
    """Refuse a batch if its crops alone, without the network's activations, exceed the memory; `views` is per crop."""
    crops, channels = options.get("batch_size", 1) * views, len(options["modalities"])
    one = channels * math.prod(options["patch_size"]) * FLOAT
    memory = device_memory(options["device"])
    if crops * one > memory:
        name = "patch_size" if one > memory else "batch_size"
        raise ArgumentError(
            name,
            options[name],
            f"the crops alone, {crops:,} of {channels} channels in float32, take "
            f"{crops * one / 2**30:,.1f} GiB; this machine has {memory / 2**30:,.1f} GiB",
        )


def explain_out_of_memory(error: BaseException, options: Mapping[str, Any]) -> str | None:
    """One line if memory ran out: the device, the error, and options to change; None for other exceptions."""
    for link in chain_of(error):
        text = f"{type(link).__name__}: {link}"
        if shared := re.search(rf".*({IN_SHARED}).*", text):
            return (
                "shared memory, /dev/shm, is full: set --num_workers=0 or fewer workers, or make it larger, as by "
                f"docker run --shm-size=8g ({shared[0].strip()[:200]})"
            )
        place = "GPU" if re.search(ON_GPU, text) else "host" if _is_of_host(link) else ""
        if place:
            lines = [line for line in text.splitlines() if re.search(f"{ON_GPU}|{ON_HOST}", line)] or [text]
            steps = ", or ".join(_saving(place, options))
            return f"out of memory on the {place}: {steps} ({lines[-1].strip():.200})"
    return None


def _saving(place: str, options: Mapping[str, Any]) -> list[str]:
    """Options that save memory of the GPU or the host, the gentlest first."""
    is_on_host, trains_here = place == "host", ("cuda" in str(options.get("device"))) == (place == "GPU")
    crops: Any = options.get("batch_size")
    least = 2 if "loss_weights" in options else options.get("crops_per_volume", 1)
    has_smaller = isinstance(crops, int) and crops > least
    names = ["batch_size"] * (has_smaller and not trains_here) + ["patch_size"]
    names += ["num_workers", "cache_rate"] * is_on_host
    given = [f"--{name}={_written(options[name])}" for name in names if options.get(name, 0) not in (0, 1)]
    total = has_smaller and (options.get("global_batch_size") or crops * int(os.environ.get("WORLD_SIZE", "1")))
    steps = {
        f"raise --spacing={_written(options.get('spacing'))}": is_on_host and options.get("spacing"),
        "set --activation_checkpointing=true": options.get("activation_checkpointing") is False,
        f"set --batch_size=auto --global_batch_size={total}": has_smaller and trains_here,
        "set --stitch_device=cpu": not is_on_host and options.get("stitch_device", "cpu") != "cpu",
        "set --window_batch_size=1": is_on_host and options.get("window_batch_size", 1) != 1,
        f"lower {' or '.join(given)}": given,
        "a machine with more memory is needed": not given,
    }
    return [step for step, applies in steps.items() if applies]


def _written(value: Any) -> str:
    return f"{value}".replace(" ", "")


def lacks_host_memory(error: BaseException) -> bool:
    """Whether an exception or its causes report that the host ran out of memory."""
    return any(map(_is_of_host, chain_of(error)))


def _is_of_host(error: BaseException) -> bool:
    text = f"{type(error).__name__}: {error}"
    return not re.search(ON_GPU, text) and re.search(ON_HOST, text) is not None
