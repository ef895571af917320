"""The job that the operators of a run share, and its result files."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.dataset import Dataset

from common.errors import InputError
from deploy import outputs
from deploy.bundle import Bundle
from deploy.dicom.remarks import Remark
from deploy.dicom.study import Series

MANUFACTURER = "BrainSegFounder bundles"  # in all DICOM results
DICOM_FILES, REPORT = tuple(f"{name}.dcm" for name in outputs.NAMES), "result.json"
RESULT_FILES = (*DICOM_FILES, REPORT)  # moved in this order: if the last exists, all do


@dataclass
class Job:
    """The input, options and remarks of one run."""

    bundle: Bundle
    series: dict[str, Series]  # by modality, in the order of the model's input channels
    reasons: dict[str, str]  # modality -> evidence for its series, in predefined phrases
    reference: str  # modality whose series gives the grid
    work: Path  # temporary files of the inference
    results: Path  # temporary folder of the result files
    options: list[str] = field(default_factory=list)  # of the bundle's inference
    force: bool = False  # continue if a precondition is not met
    prepare: bool = False
    remarks: list[Remark] = field(default_factory=list)  # operators append to this list
    replaced: list[Dataset] = field(default_factory=list)  # references to earlier results of the study


def prepare_output(output: Path) -> None:
    """Create the output folder if missing; refuse a folder that is not writable or contains results.

    Messages do not name the folder, because the name may identify the patient.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        existing = next((name for name in RESULT_FILES if (output / name).exists()), None)
    except OSError as error:
        reason = "a file" if isinstance(error, FileExistsError) else error.strerror
        raise InputError(f"--output: {reason}; expected a writable folder") from error
    if existing:
        raise InputError(f"--output: contains {existing}; expected a folder without results")
    if not os.access(output, os.W_OK):
        raise InputError("--output: not writable; expected a writable folder")


def publish(results: Path, output: Path) -> None:
    """Move the result files to the output folder, all or none; refuse to replace a file there."""
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
