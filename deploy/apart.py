"""Work in a process of its own that ends with this one, so that no patient's file outlives an interrupted run.

Holoscan answers SIGTERM by ending its process on the spot: no `finally` runs, and the bundle's inference goes on alone.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from deploy.privacy import keep_silent

__all__ = ["end_in_order", "run_apart"]

SIGNALS = (signal.SIGTERM, signal.SIGHUP)  # of schedulers, containers and closed terminals; Ctrl-C does so by itself


def end_in_order() -> None:
    """From now on SIGTERM and SIGHUP end this process as an exception does: what is temporary is removed."""
    for number in SIGNALS:
        signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> None:
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)  # a second one would break off the removal
    raise SystemExit(128 + number)  # as shells have it


def run_apart(work: Callable[..., None], *arguments: Any) -> None:
    """Call a function in another process; where this one is interrupted, end that one with all that it has started.

    Args:
        work: of a module, by which the other process finds it; what it returns is lost.
        arguments: for it; they are pickled.

    Raises:
        SystemExit: it failed, and has told so; the status is that of the other process.
    """
    process = multiprocessing.get_context("spawn").Process(target=_lead, args=(work, *arguments))
    try:
        with _held_back():
            process.start()
        process.join()
    except BaseException:
        if process.pid is not None:
            process.kill()
            with contextlib.suppress(ProcessLookupError):  # it had not come to lead a group, and so had started nothing
                os.killpg(process.pid, signal.SIGKILL)
            process.join()
        raise
    if process.exitcode:
        raise SystemExit(max(process.exitcode, 1))  # negative after a signal


@contextlib.contextmanager
def _held_back() -> Iterator[None]:
    """Signals that come meanwhile are answered in the end: a start that is broken off leaves a process unknown."""
    came: list[int] = []
    answers = {
        each: signal.signal(each, lambda number, frame: came.append(number)) for each in (*SIGNALS, signal.SIGINT)
    }
    try:
        yield
    finally:
        for each, answer in answers.items():
            signal.signal(each, answer)
    if came:
        signal.raise_signal(came[0])


def _lead(work: Callable[..., None], *arguments: Any) -> None:
    os.setsid()  # what it starts is in its group then
    keep_silent()
    try:
        work(*arguments)
    except BaseException:
        sys.excepthook(*sys.exc_info())  # multiprocessing would print the exception's text
