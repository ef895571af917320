"""Nothing that a DICOM header says may reach a log, a terminal or a file name: there may be a patient in any of it."""

import logging
import os
import sys
import traceback
import warnings
from types import TracebackType

from common.preflight import report_in_one_line

__all__ = ["keep_silent"]


def keep_silent() -> None:
    """From now on this process says only what deploy/ says.

    MONAI Deploy logs descriptions of series and texts of exceptions, pydicom's warnings quote values, Holoscan prints
    messages of exceptions to stderr itself. To be called before MONAI Deploy is imported, as Holoscan reads its level
    then. An exception that is no `InputError` is told by its kind and place, without its message.
    """
    os.environ["HOLOSCAN_LOG_LEVEL"] = "OFF"
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    report_in_one_line(otherwise=_withhold)


def _withhold(kind: type[BaseException], _: BaseException, trace: TracebackType | None) -> None:
    places = (f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(trace))
    print(f"error: {kind.__name__}, its message withheld, at\n  " + "\n  ".join(places), file=sys.stderr, flush=True)
    raise SystemExit(1)
