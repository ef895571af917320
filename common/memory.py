"""The machine's memory: huge pages, limits, checks, and one-line errors when memory runs out."""

import ctypes
import math
import os
import re
import resource
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .errors import ArgumentError, chain_of

FLOAT = 4  # bytes
KILLED_READER = "DataLoader worker .*(Killed|Bus error|exited unexpectedly)"  # PyTorch's words
THREADLESS = "can't start new thread"  # Python's words when memory or processes run out
CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")  # the cgroups of this process

# glibc's parameters of mallopt and their variables: blocks up to 256 MiB come from the heap, which keeps 512 MiB free
KEPT = {"MALLOC_MMAP_THRESHOLD_": (-3, 2**28), "MALLOC_TRIM_THRESHOLD_": (-1, 2**29)}


def use_huge_pages() -> None:
    """Let PyTorch allocate huge pages, and glibc keep freed memory, in this process and its forks (docs/benchmarks.md).

    Call it before the first tensor is made. Variables of the environment take precedence (`THP_MEM_ALLOC_ENABLE=0`
    disables all); without glibc nothing changes.
    """
    if "CS_GNU_LIBC_VERSION" not in os.confstr_names or not os.confstr("CS_GNU_LIBC_VERSION"):
        return
    if os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1") == "0":
        return
    libc = ctypes.CDLL(None)
    for name, (parameter, value) in KEPT.items():
        if name not in os.environ:
            libc.mallopt(parameter, value)


def peak_resident(process: int | None = None) -> float:
    """Peak resident memory of a process in GiB, of this process by default.

    `VmHWM` is read because Linux starts a child's `ru_maxrss` at its parent's peak; ProcessLookupError if it is not
    reported.
    """
    status = Path(f"/proc/{process or 'self'}/status")
    found = re.search(r"^VmHWM:\s*(\d+) kB", status.read_text(), re.MULTILINE) if status.is_file() else None
    if found is None and process is not None:
        raise ProcessLookupError(process)
    return (int(found[1]) if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / 2**20


def host_memory() -> int:
    """Memory limit of this process, in bytes: memory and swap, or a lower limit of a cgroup or resource.

    SLURM, Docker and Kubernetes set cgroup limits. Memory of other processes is not subtracted, since they may end.
    """
    page = os.sysconf("SC_PAGE_SIZE")
    swap = _swap()
    limits = [page * os.sysconf("SC_PHYS_PAGES") + swap, *(limit + swap for limit in cgroup_limits())]
    own = resource.getrlimit(resource.RLIMIT_AS)[0]
    return min([*limits, own] if own != resource.RLIM_INFINITY else limits)


def device_memory(device: Any) -> int:
    """Memory of a device in bytes; for a CPU, `host_memory`."""
    import torch  # imported here because it is slow

    if torch.device(device).type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return host_memory()


def _swap() -> int:
    meminfo = Path("/proc/meminfo")
    found = re.search(r"^SwapTotal: *(\d+) kB", meminfo.read_text(), re.MULTILINE) if meminfo.is_file() else None
    return int(found[1]) * 1024 if found else 0


def cgroup_limits(root: Path = CGROUPS, membership: Path = MEMBERSHIP) -> Iterator[int]:
    """Memory limits in bytes of this process's cgroup and its parents, versions 1 and 2."""
    for line in membership.read_text().splitlines() if membership.is_file() else []:
        _, controllers, name = line.split(":", 2)
        is_second = controllers == ""
        if not is_second and "memory" not in controllers.split(","):
            continue
        top = root if is_second else root / "memory"
        group = top / name.lstrip("/")
        for folder in [group, *group.parents]:
            file = folder / ("memory.max" if is_second else "memory.limit_in_bytes")
            if folder.is_relative_to(top) and file.is_file() and (limit := file.read_text().strip()) != "max":
                yield int(limit)


def gibibytes(count: float) -> str:
    """Format a number of bytes in GiB.

    Example:
        >>> gibibytes(24 * 2**30)
        '24.0 GiB'
    """
    return f"{count / 2**30:,.1f} GiB"


def check_crops(options: Mapping[str, Any], views: int = 1) -> None:
    """Refuse a batch if its crops alone, without the network's activations, exceed the memory; `views` is per crop."""
    crops, channels = options.get("batch_size", 1) * views, len(options["modalities"])
    one = channels * math.prod(options["patch_size"]) * FLOAT
    memory = min(device_memory(options["device"]), host_memory())
    if crops * one > memory:
        name = "patch_size" if one > memory else "batch_size"
        raise ArgumentError(
            f"{name}={options[name]}: the crops alone, {crops:,} of {channels} channels in float32, take "
            f"{gibibytes(crops * one)}; this machine has {gibibytes(memory)}"
        )


def explain_out_of_memory(error: BaseException, options: Mapping[str, Any]) -> str | None:
    """One line if memory ran out: where, how much was requested and what to change; None for other exceptions."""
    place = next(filter(None, map(_place, chain_of(error))), "")
    if not place:
        return None
    states = options.get("ckpt_dir")
    intact = f"; {states} keeps the last state" if states and any(Path(states).glob("*.pt")) else ""
    text, more = " ".join(map(str, chain_of(error))), ""
    if re.search(KILLED_READER, text):
        lower = f"lower --num_workers={options.get('num_workers', 1)}, or set it to 0, so that the run itself reads"
        return f"a process that reads data was killed, probably for lack of memory: {lower}{intact}"
    if THREADLESS in text:
        more = ", or at the limit on processes (ulimit -u)"
    elif wanted := re.search(r"(?:[Tt]ried to|Unable to) allocate ([\d.]+) ?(bytes|\wiB)", text):
        number, unit = wanted.groups()
        more = f", tried to allocate {gibibytes(float(number)) if unit == 'bytes' else f'{number} {unit}'}"
    return f"out of memory on the {place}{more}: {_advice(options, place)}{intact}"


def lacks_host_memory(error: BaseException) -> bool:
    """Whether an exception or its causes report that the host ran out of memory."""
    return any(_place(link) == "host" for link in chain_of(error))


def _place(error: BaseException) -> str:
    """The place where memory ran out, from an exception's message; empty for other messages."""
    text = f"{type(error).__name__}: {error}"
    if re.search(r"OutOfMemoryError|CUDA error: out of memory|CU\w+_STATUS_ALLOC_FAILED", text):
        return "GPU"
    if isinstance(error, MemoryError) or re.search(
        r"(can't allocate|not enough) memory|Cannot allocate memory|MemoryError"
        rf"|{THREADLESS}|could not create a primitive(?! descriptor)",  # oneDNN's words
        text,
    ):
        return "host"
    if re.search(rf"{KILLED_READER}|unable to (mmap|allocate shared)", text):
        return "host"
    return ""


def _advice(options: Mapping[str, Any], place: str) -> str:
    """Memory-saving options, least intrusive first."""
    on_device = place == "GPU" or str(options.get("device", "cpu")) == "cpu"
    advice = []
    if place == "GPU" and str(options.get("stitch_device", "cpu")) != "cpu":
        advice.append("set --stitch_device=cpu")
    if on_device and options.get("activation_checkpointing") is False and "swin" in options.get("architecture", "swin"):
        advice.append("set --activation_checkpointing=true")
    crops = ["window_batch_size", "batch_size", *(["patch_size"] if "batch_size" in options else [])]
    reading = ["cache_rate", "num_workers"]
    smaller = crops if place == "GPU" else [*crops, *reading] if on_device else [*reading, "batch_size"]
    lower = [f"--{name}={options[name]}".replace(" ", "") for name in smaller if options.get(name, 0) not in (0, 1)]
    advice += [f"lower {' or '.join(lower)}"] if lower else []
    return ", or ".join(advice) or "a machine with more memory is needed"
