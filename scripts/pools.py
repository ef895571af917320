"""Run a function on many items in other processes, and survive processes that are killed."""

import os
import signal
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, parent_process
from threading import Thread
from typing import Any

from common.bars import tqdm


def map_in_processes(
    function: Callable[[Any], Any],
    items: Sequence[Any],
    workers: int = 0,
    unit: str = "it",
    description: str | None = None,
    on_result: Callable[[Any], None] | None = None,
) -> list[Any]:
    """Apply a function to each item in other processes, with a progress bar; 0 workers: one per core.

    If a process is killed, for example for lack of memory, the items in progress are tried once more, each in a
    separate process. Results are in the order of the items; a result is None if the function killed its process twice.
    """
    results: list[Any] = [None] * len(items)

    def work_off(waiting: deque[int], workers: int) -> list[int]:
        """Work until no item waits or a process is killed; return the items that were in progress then."""
        running: dict[Future[Any], int] = {}
        with ProcessPoolExecutor(min(workers, len(waiting)), initializer=_end_with_parent) as pool:
            try:
                while waiting or running:
                    while waiting and len(running) < 2 * workers:
                        running[pool.submit(function, items[waiting[0]])] = waiting[0]
                        waiting.popleft()
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        result = results[running[future]] = future.result()
                        if on_result is not None:
                            on_result(result)
                        del running[future]
                        bar.update()
            except BrokenProcessPool:
                return sorted(running.values())
            except BaseException:  # the pool would wait for the items in progress, also after Ctrl-C
                for process in active_children():
                    process.kill()
                raise
        return []

    waiting = deque(range(len(items)))
    with tqdm(total=len(items), unit=unit, desc=description, disable=not items) as bar:
        while waiting:
            for suspect in work_off(waiting, workers or os.cpu_count() or 1):
                if work_off(deque([suspect]), 1):
                    bar.update()
    return results


def _end_with_parent() -> None:
    """End this process when its parent is killed; otherwise it would wait for work forever.

    SLURM's warning before the end of a job reaches all its processes, but only the parent answers it.
    """
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    Thread(target=_watch, args=(parent_process(),), daemon=True).start()


def _watch(parent: Any) -> None:
    parent.join()
    os._exit(1)
