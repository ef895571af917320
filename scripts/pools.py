"""Apply a function to many items in child processes, even if some of the processes are killed."""

import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing import active_children, parent_process
from threading import Thread
from typing import Any

from common.bars import REPORTS, tqdm

EVERY = 1.0  # seconds between updates of the stages; 20 times as long in a log


class Stages:
    """Progress of items in child processes: their stages (`common.bars.stage`), reported through a pipe.

    Each report fits into one atomic write, so a killed process leaves neither a partial report nor a held lock.
    """

    def __init__(self, bar: Any) -> None:
        self.bar, self.done = bar, set[int]()
        self._stages: dict[int, tuple[str, float]] = {}
        self._drawn = time.monotonic()
        self._reader, self.writer = os.pipe()
        for end in (self._reader, self.writer):
            os.set_blocking(end, False)

    def end(self, indices: Sequence[int], are_done: bool = True) -> None:
        """Forget items that are no longer in progress; with `are_done`, count them as finished."""
        self._read()
        self.done.update(indices if are_done else ())
        self._stages = {index: stage for index, stage in self._stages.items() if index not in indices}

    def draw(self) -> None:
        """Update the bar: finished items plus the completed fraction of each item in progress, and the stage names."""
        self._read()
        parts = round(sum(share for _, share in self._stages.values()), 1)
        self.bar.n = len(self.done) + parts if self._stages else len(self.done)
        self.bar.set_postfix_str(", ".join(dict.fromkeys(name for name, _ in self._stages.values())), refresh=False)
        self.bar.update(0)
        if self._stages and time.monotonic() - self._drawn > EVERY * (1 if sys.stderr.isatty() else 20):
            self._drawn = time.monotonic()
            self.bar.refresh()

    def _read(self) -> None:
        with suppress(BlockingIOError):
            for line in os.read(self._reader, 2**20).decode().splitlines():
                index, share, name = line.split(" ", 2)
                if int(index) not in self.done:
                    self._stages[int(index)] = name, float(share)

    def close(self) -> None:
        """Close the pipe."""
        for end in (self._reader, self.writer):
            os.close(end)


def map_in_processes(
    function: Callable[[Any], Any],
    items: Sequence[Any],
    workers: int = 0,
    unit: str = "it",
    description: str | None = None,
    on_result: Callable[[Any], None] | None = None,
) -> list[Any]:
    """Apply a function to each item in child processes, with a progress bar; `workers` 0 means one process per core.

    The bar names the stages of the items in progress and counts their completed fractions, so that the time left covers
    all parallel work. If a process is killed, for example for lack of memory, the items in progress are tried once
    more, each in a separate process. Return the results in the order of the items, None for an item whose separate
    process was killed, too. `on_result` is called with each result that arrives.
    """
    results: list[Any] = [None] * len(items)

    def work_off(waiting: deque[int], workers: int) -> list[int]:
        """Process waiting items until all are done or a process is killed; return the indices of interrupted items."""
        running: dict[Future[Any], int] = {}
        pool = ProcessPoolExecutor(min(workers, len(waiting)), initializer=_end_with_parent)
        try:
            while waiting or running:
                while waiting and len(running) < workers:  # each submitted item starts at once
                    future = pool.submit(_work, stages.writer, function, waiting[0], items[waiting[0]])
                    running[future] = waiting.popleft()
                for future in wait(running, EVERY, FIRST_COMPLETED).done:
                    result = results[running[future]] = future.result()
                    if on_result is not None:
                        on_result(result)
                    stages.end([running.pop(future)])
                stages.draw()
        except BrokenProcessPool:
            stages.end([*running.values()], are_done=False)
        except BaseException:  # such as Ctrl-C, even while the pool starts: it cannot end then, or waits for its items
            for process in active_children():
                process.kill()
                process.join()
            pool.shutdown(wait=False)
            raise
        pool.shutdown()
        return sorted(running.values())

    waiting = deque(range(len(items)))
    with tqdm(total=len(items), unit=unit, desc=description, disable=not items, smoothing=0) as bar:
        stages = Stages(bar)
        try:
            while waiting:
                for suspect in work_off(waiting, workers or os.cpu_count() or 1):
                    if work_off(deque([suspect]), 1):
                        stages.end([suspect])
            stages.draw()
        finally:
            stages.close()
    return results


def _work(writer: int, function: Callable[[Any], Any], index: int, item: Any) -> Any:
    """Call the function in a pool process, and report its stages through the pipe."""

    def report(name: str, done: float) -> None:
        with suppress(OSError):  # a full pipe
            os.write(writer, f"{index} {done:.3f} {name}\n".encode())

    REPORTS[:] = [report]
    return function(item)


def _end_with_parent() -> None:
    """End this process when its parent ends; otherwise this process would wait for work forever.

    SIGUSR1 is ignored: SLURM sends it to all processes before a job ends, but only the parent handles it.
    """
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    Thread(target=_watch, args=(parent_process(),), daemon=True).start()


def _watch(parent: Any) -> None:
    parent.join()
    os._exit(1)
