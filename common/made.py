"""Record the origin of results (command, time, software, cohort, weights) in the file `made.json` of a folder."""

import hashlib
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from . import __version__
from .files import digest, read_json, write_json

MADE = "made.json"

Inputs = Sequence[str | Path | None]  # a subject's files; None for missing ones


def versions() -> dict[str, str]:
    """Return the versions of this software, Python and the main packages, for checkpoints and run records."""
    packages = {"torch": "torch", "monai": "monai", "ignite": "pytorch-ignite", "numpy": "numpy"}
    ours = {"brainsegfounder": __version__, "python": platform.python_version()}
    return ours | {name: version(package) for name, package in packages.items()}


def origin_of(settings: Mapping[str, Any], is_synthetic: bool = False) -> dict[str, Any]:
    """Return the origin of results: command, time, versions, commit, cohort, split, cleanup and weights.

    `is_synthetic` marks results of made-up subjects, as do the settings of a training on them.
    """
    checkpoints = settings.get("checkpoint") or []
    paths = [checkpoints] if isinstance(checkpoints, str | Path) else checkpoints
    return {
        "command": shlex.join(["python", *sys.orig_argv[1:]]),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "git_commit": _git_commit(),
        **{name: settings.get(name) for name in ("cohort", "split", "cleanup")},
        "made_up": is_synthetic or settings.get("made_up", False),
        "checkpoints": {str(path): digest(path) for path in paths},
    }


def read_origin(folder: str | Path) -> dict[str, Any]:
    """Read the origin of a folder's results; one without weights and settings if there is none."""
    file = Path(folder) / MADE
    return read_json(file) if file.exists() else {"checkpoints": {}, "settings": {}}


class Results:
    """Results of subjects in a folder, all with the weights and settings of `origin` (`origin_of` plus "settings").

    The folder's `made.json` has the origin and a stamp of each subject's "inputs". `is_same_origin`: whether earlier
    results in the folder have these weights and settings.
    """

    def __init__(self, folder: str | Path, origin: Mapping[str, Any]) -> None:
        self.folder, self.origin, earlier = Path(folder), dict(origin), read_origin(folder)
        theirs, ours = ((sorted(made["checkpoints"].values()), made["settings"]) for made in (earlier, origin))
        self.is_same_origin = theirs == ours
        self.inputs: dict[str, str] = earlier.get("inputs", {}) if self.is_same_origin else {}

    def is_current(self, subject: str, files: Inputs) -> bool:
        """Return whether a subject has results from these input files, with the same weights and settings."""
        return self.inputs.get(subject) == _stamp(files)

    def begin(self, subjects: Collection[str] = ()) -> None:
        """Record, before the work, that these subjects have no results; `add` records results later."""
        self.inputs = {subject: stamp for subject, stamp in self.inputs.items() if subject not in subjects}
        self.add({})

    def add(self, subjects: Mapping[str, Inputs]) -> None:
        """Record that the results of these subjects, each with its input files, are complete."""
        self.inputs |= {subject: _stamp(files) for subject, files in subjects.items()}
        write_json(self.folder / MADE, self.origin | {"inputs": self.inputs})


def _stamp(files: Inputs) -> str:
    """Hash the SHA-256 digests of files, in order; None and missing files count as empty digests."""
    digests = [digest(file) if file and Path(file).is_file() else "" for file in files]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _git_commit() -> str | None:
    """Return the commit of the checkout that holds this file, with `-dirty` for uncommitted changes; None elsewhere."""
    folder = Path(__file__).resolve().parents[1]
    if not (folder / ".git").exists() or not shutil.which("git"):  # a package, perhaps within another checkout
        return None
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None
