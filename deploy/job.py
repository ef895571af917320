"""The job that the operators of a run share, the case that they make of it, and the result files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from pydicom.dataset import Dataset

from deploy.bundle import Bundle
from deploy.dicom.series.choice import Choice
from scripts.prepare.volumes import Volume

MANUFACTURER = "BrainSegFounder bundles"  # in all DICOM results
DICOM_FILES, REPORT = ("segmentation.dcm", "measurements.dcm", "summary.dcm"), "result.json"
RESULT_FILES = (*DICOM_FILES, REPORT)  # moved in this order: if the last exists, all do


@dataclass
class Job:
    """The input, options and remarks of one run."""

    bundle: Bundle
    choice: Choice  # series by modality, in the order of the model's input channels; operators append remarks
    reference: str  # modality whose series gives the grid
    folder: Path  # temporary, for files of the inference and results
    options: list[str]  # of the bundle's inference
    force: bool  # continue if a precondition is not met
    prepare: bool


@dataclass(frozen=True)
class Case:
    """The results of a segmentation, from which the DICOM objects are made."""

    segments: NDArray[Any]  # segment numbers [columns, rows, slices] on the grid of the reference
    reference: Volume  # scan that gives the grid
    slices: Sequence[Dataset]  # images of the reference, in the order of the last axis
    volumes: Mapping[str, float]  # of each segment in mL, by label
    bundle: Bundle  # model of the segmentation
    remarks: Sequence[str] = ()  # texts for the results
    burned_in: str | None = None  # value of BurnedInAnnotation; None omits it
