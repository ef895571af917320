"""Signals that stop a training run: its processes defer them, its data workers ignore them."""

import os
import signal
from collections.abc import Callable
from functools import partial
from multiprocessing import get_start_method
from multiprocessing.context import ForkContext, ForkProcess
from threading import Thread, current_thread, main_thread
from types import FrameType
from typing import TYPE_CHECKING, Any

from ..errors import outlive_readers, show

if TYPE_CHECKING:
    from ignite.engine import Engine

PREEMPTED = 75  # exit status after a signal: EX_TEMPFAIL of sysexits.h
SIGNALS: dict[signal.Signals, Any] = {  # signals of SLURM or Ctrl-C -> handler after a run
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGUSR1: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,
    signal.SIGINT: signal.default_int_handler,
}


def handled() -> dict[signal.Signals, Any]:
    """Return the `SIGNALS` that this process does not ignore, as nohup does SIGHUP, with their handlers after a run."""
    return {number: default for number, default in SIGNALS.items() if signal.getsignal(number) is not signal.SIG_IGN}


def end_before_the_first_step(is_main: bool = True) -> None:
    """Make SIGTERM, SIGUSR1 and SIGHUP print a line and exit with status 75, until `StopRequest.watch` is called.

    Before the first step there is nothing to save. Only the main process prints; only the main thread sets handlers.
    """

    def end(number: int, _: FrameType | None) -> None:
        if is_main:
            name = signal.Signals(number).name
            show("", f"{name}: ended before the first step, nothing to save; status {PREEMPTED}")
        raise SystemExit(PREEMPTED)

    outlive_readers()
    if current_thread() is main_thread():
        for number in handled().keys() - {signal.SIGINT}:
            signal.signal(number, end)


def interrupt_on_signals() -> None:
    """Make `SIGNALS` raise KeyboardInterrupt, as Ctrl-C does, so that `finally` blocks run."""
    for number in handled():
        signal.signal(number, signal.default_int_handler)


class StopRequest:
    """The latest stop signal, `number` (0: none), kept until the run has finished its iteration or validation.

    A second Ctrl-C ends the process at once.
    """

    def __init__(self) -> None:
        self.number, self._process = 0, os.getpid()

    def watch(self, trainer: "Engine", *loaders: Any) -> None:
        """Defer signals while `trainer` runs, and keep the workers of the DataLoaders `loaders` alive."""
        from ignite.engine import Events  # imported here: the commands of studies need only `PREEMPTED`

        for number, default in handled().items():
            signal.signal(number, self._remember)
            trainer.add_event_handler(Events.COMPLETED, signal.signal, number, default)
        for loader in loaders:
            loader.worker_init_fn = partial(_start_worker, loader.worker_init_fn)
            if loader.num_workers and get_start_method() == "fork":
                loader.multiprocessing_context = _Deferring()

    def _remember(self, number: int, _: FrameType | None) -> None:
        self.number = number
        if number == signal.SIGINT and os.getpid() == self._process:  # not in a data worker
            signal.signal(number, signal.default_int_handler)
            show("", "Ctrl-C: stopping after this step; press Ctrl-C again to stop now without saving", error=True)


class _DeferringProcess(ForkProcess):
    """Process that is forked with SIGTERM blocked, so that PyTorch's handler never runs in the child."""

    def start(self) -> None:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Deferring(ForkContext):
    Process = _DeferringProcess


def _start_worker(before: Callable[[int], None] | None, number: int) -> None:
    """Initialise a DataLoader worker that ends on SIGTERM only if its parent sends it.

    SLURM sends SIGTERM to every process of a run, which needs its workers to finish the iteration.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # blocked already if `_Deferring` forked
    Thread(target=_end_with_parent, daemon=True).start()
    if before is not None:
        before(number)


def _end_with_parent() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
