"""The settings of a run, and whether a folder holds one with the same; `record.py` is slower to import."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.errors import InputError
from common.files import valid_json

__all__ = ["check_settings", "dataset_name", "read_record"]

MAY_DIFFER = ("datalist",)  # a path; the subjects in it may not


def dataset_name(cohort: str) -> str:
    """Name of nnU-Net's data set for a cohort: `Dataset001_` and its letters and digits."""
    return f"Dataset001_{re.sub('[^A-Za-z0-9]', '', cohort) or 'cohort'}"


def check_settings(output: Path, settings: Mapping[str, Any]) -> None:
    """Check that a folder is new, or holds a run with the same settings.

    Raises:
        InputError: it holds another run.
    """
    if not (earlier := read_record(output)):
        if output.is_dir() and any(output.iterdir()):
            raise InputError(f"--output={output}: not empty, and without run.json; expected a new folder")
        return
    known = earlier.get("config", {})
    for name, value in settings.items():
        if name not in MAY_DIFFER and known.get(name) != value:
            was = "another datalist" if name == "subjects" else f"{name}={known.get(name)}"
            now = "this one" if name == "subjects" else value
            raise InputError(f"--output={output}: holds a run with {was}, not {now}; expected a new folder")


def read_record(output: Path) -> dict[str, Any]:
    """The record of the run in a folder; empty if there is none.

    Raises:
        InputError: it is not JSON.
    """
    path = output / "run.json"
    if not path.exists():
        return {}
    return valid_json(path, "the record of a run")
