"""The result files, and how they reach the output folder: all of them or none."""

import os
from pathlib import Path

from common.errors import InputError

__all__ = ["MEASUREMENTS", "REPORT", "RESULT_FILES", "SEGMENTATION", "SUMMARY", "prepare_output", "publish_results"]

SEGMENTATION, MEASUREMENTS, SUMMARY, REPORT = "segmentation.dcm", "measurements.dcm", "summary.dcm", "result.json"
RESULT_FILES = (SEGMENTATION, MEASUREMENTS, SUMMARY, REPORT)  # the last one appears last: if it exists, all do


def prepare_output(output: Path) -> None:
    """Make the output folder if it is missing. Messages do not name it, because its name may identify the patient.

    Raises:
        InputError: the folder is not writable, or contains results.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        existing = next((name for name in RESULT_FILES if (output / name).exists()), None)
    except OSError as error:
        raise InputError(f"--output: {error.strerror}; expected a writable folder") from error
    if existing:
        raise InputError(f"--output: contains {existing}; expected a folder without results")
    if not os.access(output, os.W_OK):
        raise InputError("--output: not writable; expected a writable folder")


def publish_results(results: Path, output: Path) -> None:
    """Move the result files from the folder `results` to the output folder, all of them or none.

    Raises:
        InputError: the output folder contains one of them by now.
    """
    moved: list[Path] = []
    try:
        for name in RESULT_FILES:
            if (output / name).exists():
                raise InputError(f"--output: now contains {name}; expected a folder without results")
            moved.append((results / name).rename(output / name))
    except BaseException:
        for path in moved:
            path.unlink()
        raise
