"""Record the origin of results (command, time, software, cohort, weights) in the file `made.json` of a folder.

`Results` decides which results can be reused.
"""

import hashlib
import shlex
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .errors import InputError, shortened
from .files import digest, valid_json, write_json
from .weights.records import versions

MADE = "made.json"
FACTS = ("cleanup", "label_convention")  # about label maps
SCHEMA = {"type": "object", "required": ["checkpoints", "settings"]}

Inputs = Sequence[str | Path | None]


def made_by(settings: Mapping[str, Any], made_up: bool = False) -> dict[str, Any]:
    """Return the origin of results: command, time, versions, commit, cohort, split, cleanup and weights.

    `made_up` marks results of synthetic subjects, as do the settings of a training on them.
    """
    checkpoints = settings.get("checkpoint") or []
    paths = [checkpoints] if isinstance(checkpoints, str | Path) else checkpoints
    return {
        "command": _command(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "git_commit": _git_commit(),
        **{name: settings.get(name) for name in ("cohort", "split", "cleanup")},
        "made_up": made_up or settings.get("made_up", False),
        "checkpoints": {str(path): digest(path) for path in paths},
    }


def made_of(options: Any) -> dict[str, Any]:
    """Return the origin of inference with these `common.options.Options`: `made_by` plus "settings"."""
    return made_by(options.record()) | {"settings": options.of_results()}


def read(folder: str | Path) -> dict[str, Any] | None:
    """Read the origin of a folder's results; None if there is none."""
    file = Path(folder) / MADE
    return valid_json(file, "a record of origin", SCHEMA) if file.exists() else None


def stated(made: Mapping[str, Any], name: str) -> str | None:
    """Return a fact about label maps, such as cleanup, from their origin; None if the record lacks it."""
    return (dict(made) | made["settings"]).get(name)  # resampled label maps have the facts outside "settings"


class Results:
    """Results of subjects, or of other units, in a folder; its `made.json` has their origin and a stamp for each unit.

    All results of a folder share weights and settings. A unit is current if its input files are unchanged, too.

    `made` is the origin of this command's results: `made_by` plus "settings".
    """

    def __init__(self, folder: str | Path, made: Mapping[str, Any]) -> None:
        self.folder, self.made, earlier = Path(folder), dict(made), read(folder)
        self.difference = _difference(earlier, made)
        self.inputs: dict[str, str] = {} if earlier is None or self.difference else dict(earlier.get("inputs", {}))

    def check(self, retained: Collection[str]) -> None:
        """Raise `InputError` if results to keep (`retained`) have different weights or settings from the new ones."""
        if retained and self.difference:
            units, cure = shortened(sorted(retained)), "a different output_dir, or existing=replace for all of these"
            raise InputError(f"{self.folder}: {self.difference}: {units}; expected {cure}")

    def is_current(self, unit: str, files: Inputs) -> bool:
        """Return whether a unit has results from these input files, with the same weights and settings."""
        return self.inputs.get(unit) == _stamp(files)

    def begin(self, units: Collection[str] = ()) -> None:
        """Record, before the work, that these units have no results; `add` records results later."""
        self.inputs = {unit: stamp for unit, stamp in self.inputs.items() if unit not in units}
        self._write()

    def add(self, units: Mapping[str, Inputs]) -> None:
        """Record that the results of these units are complete; `units` maps each unit to its input files."""
        self.inputs |= {unit: _stamp(files) for unit, files in units.items()}
        self._write()

    def _write(self) -> None:
        write_json(self.folder / MADE, self.made | {"inputs": self.inputs})


def _stamp(files: Inputs) -> str:
    """Hash the SHA-256 digests of files, in order; None and missing files count as empty digests."""
    digests = [digest(file) if file and Path(file).is_file() else "" for file in files]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _difference(earlier: Mapping[str, Any] | None, made: Mapping[str, Any]) -> str:
    """Describe the first difference between two origins; empty if there is none.

    Weights are compared by SHA-256, not by path.
    """
    if earlier is None:
        return f"results of unknown weights (no {MADE})"
    if sorted(earlier["checkpoints"].values()) != sorted(made["checkpoints"].values()):
        return f"results of the weights {', '.join(earlier['checkpoints'])}, not of {', '.join(made['checkpoints'])}"
    theirs, ours = earlier["settings"], made["settings"]
    for name in sorted(theirs.keys() | ours.keys()):
        if theirs.get(name) != ours.get(name):
            return f"results with {name}={theirs.get(name)}, not {ours.get(name)}"
    return ""


def _command() -> str:
    """Return this process's command line, quoted for a shell."""
    module = getattr(sys.modules["__main__"], "__spec__", None)
    program = sys.argv[:1] if module is None else ["-m", module.name.removesuffix(".__main__")]
    return shlex.join(["python", *program, *sys.argv[1:]])


def _git_commit() -> str | None:
    """Return the commit of the checkout that holds this file, with `-dirty` for uncommitted changes; None elsewhere."""
    folder = Path(__file__).resolve().parents[1]
    if not (folder / ".git").exists():  # a package, perhaps within a checkout of something else
        return None
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no git
        return None
