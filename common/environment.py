"""Set up the process of a command: error reports, memory, limits."""

import ctypes
import os
import resource

from .errors import report_in_one_line

# Environment variable -> mallopt's parameter and value: heap for blocks up to 256 MiB, of which 512 MiB stay when free
MALLOC = {"MALLOC_MMAP_THRESHOLD_": (-3, 2**28), "MALLOC_TRIM_THRESHOLD_": (-1, 2**29)}


def prepare_process() -> None:
    """Set up error reports, memory and limits of this process; call this before anything imports PyTorch."""
    use_huge_pages()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)  # DataLoader workers need many open files
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    report_in_one_line()
    os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")  # no TF32 (DIFF-21)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # OpenMP reads it when PyTorch loads: no spinning threads


def use_huge_pages() -> None:
    """Let PyTorch allocate huge pages and glibc keep freed memory, in this process and its forks.

    Call this before the first tensor is created; see docs/reference/training.md. Environment variables take precedence
    (`THP_MEM_ALLOC_ENABLE=0` disables both). Without glibc, nothing changes.
    """
    if "CS_GNU_LIBC_VERSION" not in os.confstr_names or os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1") == "0":
        return
    for name, (parameter, value) in MALLOC.items():
        if name not in os.environ:
            ctypes.CDLL(None).mallopt(parameter, value)
