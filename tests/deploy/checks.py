"""Checks that several test modules share."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from common.errors import InputError


def refusal(call: Callable[..., object], *arguments: object, **options: object) -> str:
    """The message of the InputError that a call raises: one line, without a word from a DICOM header."""
    with pytest.raises(InputError) as error:
        call(*arguments, **options)
    message = str(error.value)
    assert "\n" not in message
    assert "SENTINEL" not in message
    assert "mprage" not in message
    return message


def dicom_errors(path: Path) -> list[str]:
    """The errors that dciodvfy finds in a DICOM file; skips the test if it is not installed (Debian: dicom3tools)."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (Debian: dicom3tools)")
    result = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
    return [line for line in result.stderr.splitlines() if line.startswith("Error")] + (
        [f"status {result.returncode}"] if result.returncode else []
    )
