"""The job that the operators of a run share, and its result files."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from common.errors import InputError
from deploy import outputs
from deploy.bundle import Bundle
from deploy.dicom.series.choice import Remark
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
    folder: Path  # temporary, for files of the inference and results
    options: list[str]  # of the bundle's inference
    force: bool  # continue if a precondition is not met
    prepare: bool
    remarks: list[Remark]  # operators append to this list


def working_folder(output: Path) -> Path:
    """Return a new folder in the output that only this user can read; refuse an output with results.

    Messages do not contain the output's name, which may identify the patient.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        existing = next((name for name in RESULT_FILES if (output / name).exists()), None)
        if existing is None:
            return Path(tempfile.mkdtemp(prefix=".unfinished-", dir=output.absolute()))
    except OSError as error:
        raise InputError(f"--output: {error.strerror}; expected a writable folder") from error
    raise InputError(f"--output: contains {existing}; expected a folder without results")
