"""Share this machine's GPUs among jobs that run at once."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock

VISIBLE = "CUDA_VISIBLE_DEVICES"


class GpuPool:
    """Lends each job the GPUs that the fewest jobs use; none if there are too few for a job.

    Args:
        gpus: indices or names of GPUs, as in CUDA_VISIBLE_DEVICES.
        per_job: number of GPUs for each job.

    Example:
        >>> pool = GpuPool(["0", "1"], 1)
        >>> with pool.lend() as first, pool.lend() as second:
        ...     print(first, second)
        {'CUDA_VISIBLE_DEVICES': '0'} {'CUDA_VISIBLE_DEVICES': '1'}
    """

    def __init__(self, gpus: Sequence[str], per_job: int) -> None:
        self._jobs, self._per_job, self._lock = dict.fromkeys(gpus, 0), per_job, Lock()

    @contextmanager
    def lend(self) -> Iterator[dict[str, str]]:
        """Context manager: yield the environment variable that restricts a job to its GPUs; empty if none are lent."""
        if len(self._jobs) < self._per_job:
            yield {}
            return
        with self._lock:
            lent = sorted(self._jobs, key=self._jobs.__getitem__)[: self._per_job]
            self._jobs |= {gpu: self._jobs[gpu] + 1 for gpu in lent}
        try:
            yield {VISIBLE: ",".join(lent)}
        finally:
            with self._lock:
                self._jobs |= {gpu: self._jobs[gpu] - 1 for gpu in lent}


def visible_gpus() -> list[str]:
    """Return this process's GPUs, from CUDA_VISIBLE_DEVICES or else nvidia-smi; empty without a GPU or driver."""
    if (stated := os.environ.get(VISIBLE)) is not None:
        return [gpu.strip() for gpu in stated.split(",") if gpu.strip()]
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split()
    except (OSError, subprocess.SubprocessError):  # no driver
        return []
