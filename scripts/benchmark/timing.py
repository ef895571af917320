"""Measure work in a separate process: `python -m scripts.benchmark.timing`."""

import json
import os
import platform
import re
import runpy
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from common import ROOT
from common.errors import show
from common.memory import peak_resident, use_huge_pages

PLAIN_MEMORY = {"THP_MEM_ALLOC_ENABLE": "0"}  # default memory settings of PyTorch and glibc


class Measured(NamedTuple):
    """Processor or wall-clock time in seconds, and peak memory in GiB, of a process."""

    seconds: float
    peak_gib: float


Works = Mapping[str, Mapping[str, Callable[[], Measured]]]  # work -> variant -> function that measures it


def measure(
    program: str,
    *arguments: str,
    threads: int = 0,
    folder: Path = ROOT,
    environment: Mapping[str, str] | None = None,
    by_clock: bool = False,
) -> Measured:
    """Measure the time and peak memory of `program`, a command or a function, in a separate process.

    `program` is a module, run as `python -m module` and measured with its start-up, or a function, `module:name`: it
    takes `arguments` and returns a function without arguments, called twice and measured the second time. `by_clock`
    measures wall-clock time, because processor time excludes GPU work. `threads` is the number of threads; 0 for one
    per core. Memory and thread variables are not inherited; `environment` adds variables.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("THP_", "MALLOC_", "OMP_"))}
    inherited |= {"OMP_NUM_THREADS": str(threads or os.cpu_count() or 1), "OMP_WAIT_POLICY": "PASSIVE"}
    paths = [str(folder), str(ROOT), *filter(None, [inherited.get("PYTHONPATH")])]
    inherited |= {"PYTHONPATH": os.pathsep.join(paths)} | dict(environment or {})
    command = [sys.executable, "-W", "ignore", "-m", "scripts.benchmark.timing", program, *arguments]
    start = time.perf_counter()
    process = subprocess.run(command, cwd=folder, env=inherited, stdout=subprocess.PIPE, text=True, check=False)
    clock = time.perf_counter() - start
    if process.returncode:
        raise RuntimeError(f"{' '.join(command[4:])}: ended with status {process.returncode}\n{process.stdout}")
    measured = Measured(**json.loads(process.stdout.splitlines()[-1]))
    return measured._replace(seconds=clock) if by_clock else measured


def setting() -> str:
    """Describe the versions of PyTorch, MONAI and Python, and the processor with its number of cores."""
    from common.weights import versions

    cpuinfo = Path("/proc/cpuinfo")  # only on Linux
    model = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE) if cpuinfo.is_file() else None
    processor = model[1] if model else platform.processor()
    return "PyTorch {torch}, MONAI {monai}, Python {python}, ".format_map(versions()) + (
        f"{processor} with {os.cpu_count()} cores"
    )


def _run_command(module: str, arguments: list[str]) -> Measured:
    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    return Measured(time.process_time(), peak_resident())


def _run_twice(function: str, arguments: list[str]) -> Measured:
    use_huge_pages()
    module, name = function.split(":")
    run = getattr(import_module(module), name)(*arguments)
    run()  # warm-up: allocates memory that later runs reuse
    start = time.process_time()
    run()
    return Measured(time.process_time() - start, peak_resident())


if __name__ == "__main__":
    program, arguments = sys.argv[1], sys.argv[2:]
    show(json.dumps((_run_twice if ":" in program else _run_command)(program, arguments)._asdict()))
