"""Signals of a scheduler: a training run saves its state after the current iteration, and exits."""

import os
import signal
from collections.abc import Callable
from functools import partial
from threading import Thread
from types import FrameType
from typing import Any

from ignite.engine import Engine, Events

PREEMPTED = 75  # exit status after a signal: EX_TEMPFAIL of sysexits.h
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class StopRequest:
    """The latest stop signal, `number` (0: none), kept until the run has finished its iteration or validation."""

    def __init__(self) -> None:
        self.number = 0

    def watch(self, trainer: Engine, *loaders: Any) -> None:
        """Defer signals while `trainer` runs, and keep the workers of the DataLoaders `loaders` alive."""
        for number in SIGNALS:
            signal.signal(number, self._remember)
            trainer.add_event_handler(Events.COMPLETED, signal.signal, number, signal.SIG_DFL)
        for loader in loaders:
            loader.worker_init_fn = partial(_start_worker, loader.worker_init_fn)

    def _remember(self, number: int, _: FrameType | None) -> None:
        self.number = number


def _start_worker(before: Callable[[int], None] | None, number: int) -> None:
    """Initialise a DataLoader worker that ends on SIGTERM only if its parent sends it.

    SLURM sends SIGTERM to every process of a run, which needs its workers to finish the iteration.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    Thread(target=_end_with_parent, daemon=True).start()
    if before is not None:
        before(number)


def _end_with_parent() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
