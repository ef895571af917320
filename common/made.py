"""Record the origin of results (command, time, software, cohort, weights) in the file `made.json` of a folder."""

import hashlib
import shlex
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .errors import InputError, shortened
from .files import digest, read_json, write_json
from .weights.records import versions

MADE = "made.json"
SCHEMA = {"type": "object", "required": ["checkpoints", "settings"]}

Inputs = Sequence[str | Path | None]


def origin_of(settings: Mapping[str, Any], is_synthetic: bool = False) -> dict[str, Any]:
    """Return the origin of results: command, time, versions, commit, cohort, split, cleanup and weights.

    `is_synthetic` marks results of made-up subjects, as do the settings of a training on them.
    """
    checkpoints = settings.get("checkpoint") or []
    paths = [checkpoints] if isinstance(checkpoints, str | Path) else checkpoints
    module = getattr(sys.modules["__main__"], "__spec__", None)
    program = sys.argv[:1] if module is None else ["-m", module.name.removesuffix(".__main__")]
    return {
        "command": shlex.join(["python", *program, *sys.argv[1:]]),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "git_commit": _git_commit(),
        **{name: settings.get(name) for name in ("cohort", "split", "cleanup")},
        "made_up": is_synthetic or settings.get("made_up", False),
        "checkpoints": {str(path): digest(path) for path in paths},
    }


def origin_of_inference(options: Any) -> dict[str, Any]:
    """Return the origin of inference with these `common.options.Options`: `origin_of` plus "settings"."""
    return origin_of(options.record()) | {"settings": options.of_results()}


def read_origin(folder: str | Path) -> dict[str, Any] | None:
    """Read the origin of a folder's results; None if there is none."""
    file = Path(folder) / MADE
    return read_json(file, "a record of origin", SCHEMA) if file.exists() else None


def stated(origin: Mapping[str, Any], name: str) -> str | None:
    """Return a fact about label maps, such as cleanup, from their origin; None if the record lacks it."""
    return (dict(origin) | origin["settings"]).get(name)  # resampled label maps have the facts outside "settings"


class Results:
    """Results of subjects in a folder; its `made.json` has their origin and a stamp of each subject's input files.

    All results of a folder share weights and settings. `origin` is that of this command's results: `origin_of` plus
    "settings".
    """

    def __init__(self, folder: str | Path, origin: Mapping[str, Any]) -> None:
        self.folder, self.origin, earlier = Path(folder), dict(origin), read_origin(folder)
        self.difference = _difference(earlier, origin)
        self.inputs: dict[str, str] = {} if earlier is None or self.difference else dict(earlier.get("inputs", {}))

    def check(self, retained: Collection[str]) -> None:
        """Raise `InputError` if results to keep (`retained`) have different weights or settings from the new ones."""
        if retained and self.difference:
            subjects, cure = shortened(sorted(retained)), "a different output_dir, or existing=replace for all of these"
            raise InputError(f"{self.folder}: {self.difference}: {subjects}; expected {cure}")

    def is_current(self, subject: str, files: Inputs) -> bool:
        """Return whether a subject has results from these input files, with the same weights and settings."""
        return self.inputs.get(subject) == _stamp(files)

    def begin(self, subjects: Collection[str] = ()) -> None:
        """Record, before the work, that these subjects have no results; `add` records results later."""
        self.inputs = {subject: stamp for subject, stamp in self.inputs.items() if subject not in subjects}
        self._write()

    def add(self, subjects: Mapping[str, Inputs]) -> None:
        """Record that the results of these subjects, each with its input files, are complete."""
        self.inputs |= {subject: _stamp(files) for subject, files in subjects.items()}
        self._write()

    def _write(self) -> None:
        write_json(self.folder / MADE, self.origin | {"inputs": self.inputs})


def _stamp(files: Inputs) -> str:
    """Hash the SHA-256 digests of files, in order; None and missing files count as empty digests."""
    digests = [digest(file) if file and Path(file).is_file() else "" for file in files]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _difference(earlier: Mapping[str, Any] | None, origin: Mapping[str, Any]) -> str:
    """Describe how weights, by SHA-256, and settings of two origins differ; empty if they do not."""
    if earlier is None:
        return f"results of unknown weights (no {MADE})"
    theirs, ours = (
        {"weights": sorted(record["checkpoints"].values()), **record["settings"]} for record in (earlier, origin)
    )
    names = [name for name in sorted(theirs.keys() | ours.keys()) if theirs.get(name) != ours.get(name)]
    return f"results with different {', '.join(names)}" if names else ""


def _git_commit() -> str | None:
    """Return the commit of the checkout that holds this file, with `-dirty` for uncommitted changes; None elsewhere."""
    folder = Path(__file__).resolve().parents[1]
    if not (folder / ".git").exists():  # a package, perhaps within a checkout of something else
        return None
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None
    except FileNotFoundError:  # no git
        return None
