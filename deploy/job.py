"""The job of one run, which the operators share, and its result files: all of them reach the output folder, or none."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from common.errors import InputError

if TYPE_CHECKING:  # the service, which runs for ever, imports neither PyTorch nor pydicom
    from deploy.bundle import Bundle
    from deploy.study import Series

SEGMENTATION, MEASUREMENTS, SUMMARY, REPORT = "segmentation.dcm", "measurements.dcm", "summary.dcm", "result.json"
RESULT_FILES = (SEGMENTATION, MEASUREMENTS, SUMMARY, REPORT)  # the last one appears last: if it exists, all do


@dataclass
class Job:
    """What one run of the application has to do.

    Attributes:
        bundle: the model.
        series: modality -> its series, in the order of the model's input channels.
        reasons: modality -> the evidence on which its series was chosen, in fixed words.
        reference: modality whose series gives the grid.
        work: folder for temporary files of the inference.
        results: folder for the result files.
        options: additional options of the bundle's inference.
        force: whether to continue when a precondition is not met.
        prepare: whether to prepare the scans for the model.
        remarks: sentences for the readers of the result; operators add to them.
    """

    bundle: "Bundle"
    series: "dict[str, Series]"
    reasons: dict[str, str]
    reference: str
    work: Path
    results: Path
    options: list[str] = field(default_factory=list)
    force: bool = False
    prepare: bool = False
    remarks: list[str] = field(default_factory=list)


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


def publish(results: Path, output: Path) -> None:
    """Move the result files to the output folder, all of them or none.

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
