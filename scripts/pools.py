"""Apply a function to many items in child processes."""

import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, parent_process
from pathlib import Path
from threading import Thread
from typing import Any

from tqdm import tqdm

from common.errors import InputError, shortened


def map_in_processes(
    function: Callable[[Any], Any],
    items: Sequence[Any],
    workers: int = 0,
    unit: str = "it",
    description: str | None = None,
    on_result: Callable[[Any], object] = id,
) -> list[Any]:
    """Apply a function to each item, with a progress bar; return the results in the order of the items.

    `workers` 0 means one process per core. `on_result` is called with each result that arrives. An exception, or
    Ctrl-C, ends all processes. Raise `InputError` if a process is killed.
    """
    workers = min(workers or os.cpu_count() or 1, max(1, len(items)))
    pool = ProcessPoolExecutor(workers, initializer=_end_with_parent)
    try:
        futures = {pool.submit(function, item): item for item in items}
        for future in tqdm(as_completed(futures), description, len(items), unit=unit, disable=not items, smoothing=0):
            if error := future.exception():
                error.add_note(f"{unit}: {futures[future]!s:.200}")
                raise error
            on_result(future.result())
    except BrokenProcessPool as error:
        items_in_progress = [f"{item!s:.80}" for future, item in futures.items() if future.exception()][:workers]
        problem = "a process was killed, probably for lack of memory"
        raise InputError(f"{unit} {shortened(items_in_progress)}", problem, "fewer processes") from error
    except BaseException:  # such as Ctrl-C
        for process in active_children():
            process.kill()
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()
    return [future.result() for future in futures]


def free_memory() -> int:
    """Return the free memory in bytes: of the host, or of the container or SLURM job (cgroup 2) of this process."""
    sizes = dict(re.findall(r"^(\w+):\s*(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE))
    free = [1024 * int(sizes["MemAvailable"])]
    membership = re.findall(r"^0::/(.*)$", Path("/proc/self/cgroup").read_text(), re.MULTILINE)
    path = Path("/sys/fs/cgroup", *membership)
    for folder in (path, *path.parents):
        limit = folder / "memory.max"
        if limit.is_file() and (most := limit.read_text().strip()).isdecimal():
            cache = re.findall(r"^inactive_file (\d+)$", (folder / "memory.stat").read_text(), re.MULTILINE)
            free.append(int(most) - int((folder / "memory.current").read_text()) + sum(map(int, cache)))
    return min(free)


def _end_with_parent() -> None:
    """Exit when the parent process exits; otherwise this process would wait for work forever."""

    def watch(parent: Any) -> None:
        parent.join()
        os._exit(1)

    Thread(target=watch, args=(parent_process(),), daemon=True).start()
