"""The record of an nnU-Net run, run.json; a repeated command skips the steps that run.json lists as finished."""

import resource
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.errors import InputError
from common.files import valid_json
from common.training.records import RunRecord, peak_memory

MAY_DIFFER = ("datalist",)  # the path may differ; its subjects must not


def check_settings(output: Path, settings: Mapping[str, Any]) -> None:
    """Raise an InputError if a folder holds other files, or a run with other settings that has finished a step."""
    if not (earlier := read_record(output)):
        if output.is_dir() and any(output.iterdir()):
            raise InputError(f"--output={output}: not empty, and without run.json; expected a new folder")
        return
    if not earlier.get("steps"):
        return
    for name, value in settings.items():
        saved = earlier.get("config", {}).get(name)
        if name not in MAY_DIFFER and saved != value:
            raise InputError(f"--output={output}: holds a run with {name}={saved}, not {value}; expected a new folder")


def read_record(output: Path) -> dict[str, Any]:
    """Read run.json in a folder; empty if there is none."""
    path = output / "run.json"
    return valid_json(path, "the record of a run") if path.exists() else {}


class BaselineRecord(RunRecord):
    """The record of a run in several steps; an existing run.json is continued."""

    def __init__(self, output: Path, settings: Mapping[str, Any], device: str, versions: Mapping[str, str]) -> None:
        super().__init__(str(output), settings, "train")
        self.content |= {"device": device, "steps": {}}
        self.content["versions"] |= versions
        self._is_new = False  # an earlier record is replaced
        if earlier := read_record(output):
            new = ("command", "versions", "git_commit", "config", "finished")
            self.content |= {name: value for name, value in earlier.items() if name not in new}
            self._before = earlier["seconds"]

    @contextmanager
    def step(self, name: str, redo: bool = False) -> Iterator[bool]:
        """Context manager: yield whether a step must run, and record its time and memory at the end.

        A finished step need not run, unless `redo` requests it because its files are missing.
        """
        if name in self.content["steps"] and not redo:
            yield False
            return
        start = time.monotonic()
        yield True
        self.content["steps"][name] = {"seconds": round(time.monotonic() - start, 1), **peak_memory()}
        self.write()

    def write(self) -> None:
        """Write the current record; the peak memory is the highest so far, in earlier attempts and worker processes."""
        workers = round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20, 3)
        self.content["peak_memory_gib"] = max(workers, self.content.get("peak_memory_gib", 0))
        super().write()
