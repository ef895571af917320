"""Checks that several test modules share."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from common.errors import InputError
from deploy.dicom.series.evidence import candidate_of_header


def refusal(call: Callable[..., object], *arguments: object, **options: object) -> str:
    """Return the message of the InputError that a call raises; it must be one line and quote no DICOM header."""
    with pytest.raises(InputError) as error:
        call(*arguments, **options)
    message = str(error.value)
    assert not [text for text in ("\n", "SENTINEL", "mprage") if text in message]
    return message


def modality_of(header: Dataset) -> str | None:
    """Return a modality by the header alone: "FLAIR", "T1ce", "T1", "T2", "ask" (doubtful T1) or None."""
    return candidate_of_header(header).modality


def dicom_errors(path: Path) -> list[str]:
    """Return dciodvfy's errors for a DICOM file; skip the test if it is not installed (Debian: dicom3tools)."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (Debian: dicom3tools)")
    result = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error")]
    return errors + ([f"status {result.returncode}"] if result.returncode else [])
