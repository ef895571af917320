"""What a process prints, and a child process that ends with this one: nothing of the patient is shown or left.

Any value of a DICOM header may name the patient. Holoscan ends its process at once on SIGTERM: no `finally` block runs,
and the bundle's inference goes on without it. Therefore Holoscan runs in a child, and this process removes what is
temporary.
"""

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from common.errors import report_in_one_line, show

SIGNALS = (signal.SIGTERM, signal.SIGHUP)  # from schedulers, containers, closed terminals; Ctrl-C raises by itself


def restrict_output() -> None:
    """Restrict the output of this process to messages of deploy/, from now on.

    MONAI Deploy logs series descriptions and texts of exceptions, pydicom's warnings quote values, and Holoscan prints
    messages of exceptions to stderr. Call this before importing MONAI Deploy, because Holoscan reads its log level on
    import. An exception other than `InputError` is reported by its type and place, without its message.
    """
    os.environ["HOLOSCAN_LOG_LEVEL"] = "OFF"
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    report_in_one_line(otherwise=_report_without_message)


def _report_without_message(kind: type[BaseException], _: BaseException, trace: TracebackType | None) -> None:
    places = (f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(trace))
    show(f"error: {kind.__name__} (message withheld) at", *(f"  {place}" for place in places), error=True)
    raise SystemExit(1)


def exit_cleanly_on_signals() -> None:
    """Let SIGTERM and SIGHUP raise SystemExit from now on, so that `finally` blocks run."""
    for number in SIGNALS:
        signal.signal(number, _exit)


def _exit(number: int, frame: FrameType | None) -> None:
    for other in SIGNALS:
        signal.signal(other, signal.SIG_IGN)  # a second signal would interrupt the clean-up
    raise SystemExit(128 + number)  # as shells report it


def run_guarded(work: Callable[..., None], *arguments: Any) -> None:
    """Call a function in a child process; if this process is interrupted, kill the child and all that it has started.

    Args:
        work: a module's function, so that the child can import it; its return value is discarded.
        arguments: of the function; they must be picklable.

    Raises:
        SystemExit: the function failed, and the child has reported why; the status is the child's, 1 after a signal.
    """
    process = multiprocessing.get_context("spawn").Process(target=_lead_process_group, args=(work, *arguments))
    try:
        process.start()
        process.join()
    except BaseException:
        if process.pid is not None:
            process.kill()
            with contextlib.suppress(ProcessLookupError):  # killed before it led a group: it has started nothing
                os.killpg(process.pid, signal.SIGKILL)
            process.join()
        raise
    if process.exitcode:
        raise SystemExit(max(process.exitcode, 1))  # negative after a signal


def _lead_process_group(work: Callable[..., None], *arguments: Any) -> None:
    os.setsid()  # a group of its own holds all that it starts
    restrict_output()
    try:
        work(*arguments)
    except BaseException:
        sys.excepthook(*sys.exc_info())  # multiprocessing would print the exception's text
