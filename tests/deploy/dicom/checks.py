"""Checks that several test modules share."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom.uid import MRImageStorage

from common.errors import InputError
from deploy.dicom.series.evidence import MIN_SLICES, candidates_of
from deploy.dicom.study import Instance, Series
from tests.deploy.dicom.dicom_study import header


def refusal(call: Callable[..., object], *arguments: object, **options: object) -> str:
    """Return the message of the InputError that a call raises; it must be one line and quote no DICOM header."""
    with pytest.raises(InputError) as error:
        call(*arguments, **options)
    message = str(error.value)
    assert not [text for text in ("\n", "SENTINEL", "mprage") if text in message]
    return message


def series_of(uid: str = "", **values: object) -> Series:
    """Return a series of the fewest MR images that make a volume, with these attributes."""
    images = []
    for position in range(MIN_SLICES):
        image = header(SOPClassUID=MRImageStorage, Modality="MR", **values)
        image.ImageOrientationPatient, image.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, position]
        images.append(Instance(Path(), image))
    return Series(uid, tuple(images))


def modality_of(**values: object) -> str | None:
    """Return a modality by a series' attributes alone: "FLAIR", "T1ce", "T1", "T2", "ask" (doubtful T1) or None."""
    (candidate,) = candidates_of([series_of(**values)], ())
    return candidate.modality


def dicom_errors(path: Path) -> list[str]:
    """Return dciodvfy's errors for a DICOM file; skip the test if it is not installed (Debian: dicom3tools)."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (Debian: dicom3tools)")
    result = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error")]
    return errors + ([f"status {result.returncode}"] if result.returncode else [])
