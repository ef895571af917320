"""Time a function, in this process or in one of its own: `python -m scripts.benchmark.timing`."""

import json
import os
import platform
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from threading import Event, Thread
from typing import Any, NamedTuple

from common.errors import show
from common.memory import peak_resident

__all__ = ["PLAIN_MEMORY", "ROOT", "Measured", "run_alone", "run_process", "setting", "timed"]

ROOT = Path(__file__).resolve().parents[2]
GPU_RUNS = 10  # that are timed together on a GPU
PLAIN_MEMORY = {"THP_MEM_ALLOC_ENABLE": "0"}  # leaves memory as PyTorch and glibc have it


class Measured(NamedTuple):
    """Seconds, and what else is known of a run; None otherwise.

    The most memory that a process had in GiB (resident set), seconds by the clock, Dice by region, TFLOP/s, and the
    share of the processor's peak that these are.
    """

    seconds: float
    peak: float | None = None
    clock: float | None = None
    dice: Mapping[str, float] | None = None
    rate: float | None = None
    share: float | None = None


def setting() -> dict[str, Any]:
    """What figures depend on: versions of Python and the main packages, the processor's name and its cores."""
    from common.weights import versions

    said = Path("/proc/cpuinfo")  # of Linux
    found = re.search(r"^model name\s*:\s*(.+)$", said.read_text(), re.MULTILINE) if said.is_file() else None
    return versions() | {"processor": found[1] if found else platform.processor(), "cores": os.cpu_count()}


def timed(run: Callable[[], Any]) -> float:
    """Seconds of processor time, which excludes other work on the machine."""
    start = time.process_time()
    run()
    return time.process_time() - start


def run_alone(
    function: str, *arguments: str, threads: int = 1, environment: Mapping[str, str] | None = None
) -> Measured:
    """Time the second run of a function in a process of its own.

    Args:
        function: `module:name` of what makes the function to run.
        arguments: of what makes it.
        threads: of PyTorch; 0 for one per core.
        environment: variables of the process besides those of this one, without settings of memory.

    Raises:
        RuntimeError: the process fails.
    """
    command = [sys.executable, "-W", "ignore", "-m", "scripts.benchmark.timing", function, *arguments]
    variables = _environment(threads) | dict(environment or {})
    ended = subprocess.run(command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(f"{' '.join(command[4:])}: ended with status {ended.returncode}")
    return Measured(**json.loads(ended.stdout.splitlines()[-1]))


def _environment(threads: int) -> dict[str, str]:
    """The variables of a process that is measured."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("THP_", "MALLOC_", "OMP_"))}
    return inherited | {"OMP_NUM_THREADS": str(threads or os.cpu_count() or 1), "OMP_WAIT_POLICY": "PASSIVE"}


def run_process(
    words: Sequence[str], folder: Path = ROOT, variables: Mapping[str, str] | None = None, until: str | None = None
) -> Measured:
    """Processor time of a Python process and of those that it started, its peak memory, and the time that it took.

    Args:
        words: after `python`.
        folder: that it starts in.
        variables: of its environment.
        until: text that ends the process when it prints it.

    Raises:
        RuntimeError: it fails, or ends without the text.
    """
    environment = _environment(0) | {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"} | dict(variables or {})
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    printed: list[str] = []
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", *words], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        with _watched(process.pid) as peaks:
            for line in process.stdout:
                printed.append(line)
                if until is not None and until in line:
                    process.kill()
                    break
    expected = 0 if until is None else -signal.SIGKILL
    if process.returncode != expected:
        raise RuntimeError(f"{' '.join(words)}: ended with status {process.returncode}\n{''.join(printed)}")
    clock, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(seconds, max(peaks, default=0.0), clock)


@contextmanager
def _watched(process: int) -> Iterator[list[float]]:
    """The peak memory of a process in GiB, looked at again and again; Linux only."""
    peaks: list[float] = []
    is_over = Event()

    def watch() -> None:
        while not is_over.wait(0.1):
            with suppress(OSError):
                peaks.append(peak_resident(process))

    watcher = Thread(target=watch)
    watcher.start()
    try:
        yield peaks
    finally:
        is_over.set()
        watcher.join()


def _run_twice(function: str, *arguments: str) -> None:
    """Run what `function` makes, then once more, and print what that took."""
    module, name = function.split(":")
    run = getattr(import_module(module), name)(*arguments)
    run()  # takes memory that later runs reuse
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        show(json.dumps(_timed_on_gpu(run, torch.cuda)))
    else:
        show(json.dumps({"seconds": timed(run), "peak": peak_resident()}))


def _timed_on_gpu(run: Callable[[], Any], cuda: Any) -> dict[str, float]:
    """Seconds by the clock until the GPU has done its work, as processor time leaves it out, and its peak memory."""
    cuda.synchronize()
    cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    for _ in range(GPU_RUNS):
        run()
    cuda.synchronize()
    return {"seconds": (time.perf_counter() - start) / GPU_RUNS, "peak": cuda.max_memory_allocated() / 2**30}


if __name__ == "__main__":
    _run_twice(*sys.argv[1:])
