"""Raw scans from DICOM studies: the series of each modality, by the reader of deploy/.

Any value in a header may name the patient, and so may a file's name: no message, warning or record quotes one.
"""

import hashlib
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom.misc import is_dicom

from common.errors import InputError
from common.files import digest
from common.prepare.volumes import Volume, check_scan
from deploy.geometry import read_series
from deploy.series_choice import choose_series
from deploy.study import DICOM_SUFFIXES, Series, read_study


@dataclass(frozen=True)
class SeriesScan:
    """The scan of a modality in a DICOM study, and the evidence on which its series was chosen, in fixed words."""

    series: Series
    evidence: str = field(repr=False)

    def digest(self) -> str:
        """SHA-256 of the SHA-256 of its files, whatever their names and their order.

        Raises:
            InputError: a file cannot be read.
        """
        with _without_values():
            digests = sorted(digest(path) for path in self.series.files)
        return hashlib.sha256("\n".join(digests).encode()).hexdigest()

    def read(self) -> Volume:
        """Its voxels, float32 [columns, rows, slices].

        Raises:
            InputError: its images are no volume of a head.
        """
        with _without_values():
            volume, _ = read_series(self.series)
        check_scan(volume, self.series.name)
        return volume

    def record(self) -> dict[str, Any]:
        """What identifies it in a record, without anything that names the patient."""
        return {"series": self.series.name, "images": len(self.series.instances), "evidence": self.evidence}


def holds_dicom(files: Sequence[Path]) -> bool:
    """Whether a file is DICOM, by its first bytes or its suffix."""
    return any(path.suffix.lower() in DICOM_SUFFIXES or is_dicom(path) for path in files)


def choose_scans(
    folder: Path, modalities: Sequence[str], requested: Mapping[str, str]
) -> tuple[dict[str, SeriesScan], list[str]]:
    """Choose the series of each modality; deploy/README.md, "How series are chosen", states the rules.

    Args:
        folder: with the DICOM files of one study.
        modalities: to look for. The series need not share a frame of reference, as they are registered.
        requested: modality -> number or UID of its series; the rules choose the others.

    Returns:
        Modality -> scan, and remarks on the choice.

    Raises:
        InputError: the folder holds no study, or the evidence is doubtful; the message asks for --series.
    """
    with _without_values():
        choice = choose_series(read_study(folder, "DICOM"), modalities, requested, one_frame=False)
    scans = {modality: SeriesScan(series, choice.reasons[modality]) for modality, series in choice.series.items()}
    return scans, choice.remarks


@contextmanager
def _without_values() -> Iterator[None]:
    """Keep the values and paths that pydicom's warnings, log and exceptions quote out of what is printed."""
    log = logging.getLogger("pydicom")
    before = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (InputError, MemoryError):
        raise
    except OSError as error:
        raise InputError(f"DICOM: {error.strerror}; expected files that can be read") from None
    except Exception as error:
        raise InputError(f"DICOM: {type(error).__name__} (message withheld); expected a study of the head") from None
    finally:
        log.setLevel(before)
