"""The job of a run, and the name of its report."""

from dataclasses import dataclass
from pathlib import Path

from deploy.bundle import Bundle
from deploy.dicom.series.choice import Choice

REPORT = "result.json"  # moved last: if it exists, all results do


@dataclass
class Job:
    """The input, options and remarks of one run."""

    bundle: Bundle
    choice: Choice  # series by modality, in the order of the model's input channels; the operator appends remarks
    reference: str  # modality whose series gives the grid
    folder: Path  # temporary, for files of the inference and results
    options: list[str]  # of the bundle's inference
    force: bool  # continue if a precondition is not met
    prepare: bool
