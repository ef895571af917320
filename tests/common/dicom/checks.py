"""Checks that several test modules share."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from common.dicom.series.evidence import candidate_of_header
from common.errors import InputError


def refusal(call: Callable[..., object], *arguments: object, **options: object) -> str:
    """The message of the InputError that a call raises: one line, without a word from a DICOM header."""
    with pytest.raises(InputError) as error:
        call(*arguments, **options)
    message = str(error.value)
    assert not [text for text in ("\n", "SENTINEL", "mprage") if text in message]
    return message


def modality_of(header: Dataset) -> str | None:
    """Modality of a series on its own: "FLAIR", "T1ce", "T1", "T2", "ask" for a doubtful T1, or None."""
    return candidate_of_header(header).modality


def dicom_errors(path: Path) -> list[str]:
    """The errors that dciodvfy finds in a DICOM file; skips the test if it is not installed (Debian: dicom3tools)."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (Debian: dicom3tools)")
    result = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error")]
    return errors + ([f"status {result.returncode}"] if result.returncode else [])
