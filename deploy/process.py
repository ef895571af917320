"""Keep patient data out of a process's output, and end its child processes when it ends.

Header values may name the patient, so library output is suppressed. Holoscan exits on SIGTERM without clean-up, so
Holoscan runs in a child process, and the parent cleans up.
"""

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import Any

from common.errors import InputError, report_in_one_line, show
from scripts.cli import ending_of


def restrict_output() -> None:
    """Restrict the output of this process to messages of deploy/. Call this before importing MONAI Deploy.

    MONAI Deploy, pydicom and Holoscan print header values; Holoscan reads its log level on import. Exceptions other
    than `InputError` are reported by type and location, without their message.
    """
    os.environ["HOLOSCAN_LOG_LEVEL"] = "OFF"
    os.environ.setdefault("CUPY_CACHE_DIR", tempfile.gettempdir())  # created on import, by default in the home folder
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    sys.excepthook = _report_without_message
    report_in_one_line()


def _report_without_message(kind: type[BaseException], _: BaseException, trace: TracebackType | None) -> None:
    locations = (f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(trace))
    show(f"error: {kind.__name__} (message withheld) at", *(f"  {location}" for location in locations), error=True)
    raise SystemExit(1)


def exit_cleanly_on_signals() -> None:
    """Make SIGTERM and SIGHUP (unless ignored, as by nohup) raise SystemExit, so that `finally` blocks run.

    Call this after importing MONAI Deploy, as Holoscan replaces the handler of SIGHUP.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda received, _: sys.exit(128 + received))  # the shell's convention


def run_guarded(work: Callable[..., None], *arguments: Any) -> None:
    """Call a function in a child process; if this process is interrupted, kill the child and its descendants.

    The function must be importable and its arguments picklable; its return value is discarded. Raises SystemExit with
    the child's status if the function fails, and InputError if a signal ends the child.
    """
    process = multiprocessing.get_context("spawn").Process(target=_lead_process_group, args=(work, *arguments))
    try:
        process.start()
        process.join()
    except BaseException:
        if process.pid is not None:
            process.kill()
            with contextlib.suppress(ProcessLookupError):  # killed before it led a group, so it has no children
                os.killpg(process.pid, signal.SIGKILL)
            process.join()
        raise
    if process.exitcode and process.exitcode < 0:
        raise InputError(f"a process of this command {ending_of(process.exitcode)}")
    if process.exitcode:
        raise SystemExit(process.exitcode)


def _lead_process_group(work: Callable[..., None], *arguments: Any) -> None:
    os.setsid()  # descendants join this group and are killed with it
    restrict_output()
    try:
        work(*arguments)
    except BaseException:
        sys.excepthook(*sys.exc_info())  # multiprocessing would print the exception's text
