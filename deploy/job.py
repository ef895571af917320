"""What the application is to do, as its operators hand it on."""

from dataclasses import dataclass, field
from pathlib import Path

from deploy.bundle import Bundle
from deploy.dicom_series import Series

__all__ = ["RESULTS", "Job", "Source"]

RESULTS = ("segmentation.dcm", "summary.dcm", "result.json")  # the last one says that all are there


@dataclass(frozen=True)
class Source:
    """A series as operators know it, without headers, which name the patient: UID, name, number, count of images."""

    uid: str
    name: str
    number: int | None
    count: int

    @classmethod
    def of(cls, series: Series) -> "Source":
        """That of a series."""
        return cls(series.uid, series.name, series.number, len(series.instances))


@dataclass
class Job:
    """What an application is to do.

    Attributes:
        bundle: the model.
        chosen: the series of each modality, without headers, in the order of the model's channels.
        reference: modality whose series gives the grid.
        staged: folder that holds the files of the chosen series and nothing else, under neutral names.
        work: folder for what the inference reads and writes.
        results: folder for the `RESULTS`.
        options: further ones of the bundle's inference.
        force: whether to go on where a precondition is not met.
        remarks: what a reader of the result has to know, a sentence each; operators add to it.
    """

    bundle: Bundle
    chosen: dict[str, Source]
    reference: str
    staged: Path
    work: Path
    results: Path
    options: list[str] = field(default_factory=list)
    force: bool = False
    remarks: list[str] = field(default_factory=list)
