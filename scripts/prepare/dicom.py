"""Raw scans from DICOM studies: one series per modality, read by `common.dicom`.

Header values and file names may name the patient, so messages, warnings and records quote none of them.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.dicom.geometry import read_series
from common.dicom.series.choice import SeriesError, choose_series
from common.dicom.study import Series, read_study, without_values
from common.files import digest
from common.prepare.volumes import Volume, check_scan

UNREADABLE = "DICOM: a file cannot be read"


@dataclass(frozen=True)
class SeriesScan:
    """A modality's scan in a DICOM study, and the evidence for the choice of series, in predefined phrases."""

    series: Series
    evidence: str = field(repr=False)

    def digest(self) -> str:
        """Return a SHA-256 over the SHA-256 of all files, independent of file names and order."""
        with without_values(UNREADABLE):
            digests = sorted(digest(path) for path in self.series.files)
        return hashlib.sha256("\n".join(digests).encode()).hexdigest()

    def read(self) -> Volume:
        """Return the volume, float32 [columns, rows, slices]."""
        with without_values(UNREADABLE):
            volume, _ = read_series(self.series)
        check_scan(volume, self.series.name)
        return volume

    def record(self) -> dict[str, Any]:
        """Return the series, its number of images and the evidence, for records; no patient data."""
        return {"series": self.series.name, "images": len(self.series.instances), "evidence": self.evidence}


def choose_scans(
    folder: Path, modalities: Sequence[str], requested: Mapping[str, str]
) -> tuple[dict[str, SeriesScan], list[str]]:
    """Choose a series of a study for each modality, by the rules in deploy/README.md; return the scans and remarks.

    `requested` maps a modality to a series number or UID. The series need not share a frame of reference, because they
    are registered later. Raises an InputError that asks for --series if the evidence is unclear.
    """
    with without_values("DICOM: the study cannot be read"):
        study = read_study(folder, "DICOM")
        try:
            choice = choose_series(study, modalities, requested, one_frame=False)
        except SeriesError as error:  # deploy.app, which has a single study, spells its option without the subject
            raise error.spelled(lambda request: f"--series=\"{{'{folder.name}': '{request}'}}\"") from None
    scans = {modality: SeriesScan(series, choice.reasons[modality]) for modality, series in choice.series.items()}
    return scans, [remark.text for remark in choice.remarks]
