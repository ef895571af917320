"""Checks that several test modules share."""

import shutil
import subprocess
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import MRImageStorage

from common.errors import InputError
from deploy.dicom.series.evidence import MIN_SLICES, candidates_of
from deploy.dicom.study import Instance, Series


def refusal(call: Callable[..., object], *arguments: object, **options: object) -> str:
    """Return the message of the InputError that a call raises; it must be one line and quote no DICOM header."""
    with pytest.raises(InputError) as error:
        call(*arguments, **options)
    message = str(error.value)
    assert not [text for text in ("\n", "SENTINEL", "mprage") if text in message]
    return message


def modality_of(header: Dataset) -> str | None:
    """Return a modality by the header alone: "FLAIR", "T1ce", "T1", "T2", "ask" (doubtful T1) or None."""
    images = []
    for position in range(MIN_SLICES):
        image = deepcopy(header)
        image.SOPClassUID, image.Modality = MRImageStorage, "MR"
        image.ImageOrientationPatient, image.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, position]
        images.append(Instance(Path(), image))
    (candidate,) = candidates_of([Series("", tuple(images))], ())
    return candidate.modality


def dicom_errors(path: Path) -> list[str]:
    """Return dciodvfy's errors for a DICOM file; skip the test if it is not installed (Debian: dicom3tools)."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (Debian: dicom3tools)")
    result = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error")]
    return errors + ([f"status {result.returncode}"] if result.returncode else [])
