"""The job of one run, which the operators share."""

from dataclasses import dataclass, field
from pathlib import Path

from deploy.bundle import Bundle
from deploy.study import Series

__all__ = ["ChosenSeries", "Job"]


@dataclass(frozen=True)
class ChosenSeries:
    """A series without its headers, which name the patient.

    Attributes:
        uid: SeriesInstanceUID.
        name: name of the series in messages.
        number: SeriesNumber, if it has one.
        count: number of its files.
        reason: the evidence on which it was chosen, in fixed words.
    """

    uid: str
    name: str
    number: int | None
    count: int
    reason: str

    @classmethod
    def from_series(cls, series: Series, reason: str) -> "ChosenSeries":
        """Leave the headers of a series out."""
        return cls(series.uid, series.name, series.number, len(series.files), reason)


@dataclass
class Job:
    """What one run of the application has to do.

    Attributes:
        bundle: the model.
        chosen: modality -> its series, in the order of the model's input channels.
        reference: modality whose series gives the grid.
        staged: folder that contains the files of the chosen series and nothing else, under neutral names.
        work: folder for temporary files of the inference.
        results: folder for the result files.
        options: additional options of the bundle's inference.
        force: whether to continue when a precondition is not met.
        prepare: whether to prepare the scans for the model.
        remarks: sentences for the readers of the result; operators add to them.
    """

    bundle: Bundle
    chosen: dict[str, ChosenSeries]
    reference: str
    staged: Path
    work: Path
    results: Path
    options: list[str] = field(default_factory=list)
    force: bool = False
    prepare: bool = False
    remarks: list[str] = field(default_factory=list)
