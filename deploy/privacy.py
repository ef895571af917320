"""Keep DICOM header values, any of which may name the patient, out of logs and terminals."""

import logging
import os
import traceback
import warnings
from types import TracebackType

from common.errors import report_in_one_line, show

__all__ = ["restrict_output"]


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
