"""Record the provenance of results (command, time, software, cohort, weights) in the file `made.json` of a folder.

`Results` decides which results can be reused; `read_with_warning` warns of incomplete results.
"""

import hashlib
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .cli import command_line
from .errors import InputError, shortened, show
from .files import digest, valid_json, write_json
from .weights.records import versions

MADE = "made.json"
FACTS = {name: {"type": ["string", "null"]} for name in ("cleanup", "label_convention")}  # about label maps
SCHEMA = {
    "type": "object",
    "required": ["checkpoints", "settings"],
    "properties": {
        **FACTS,
        "checkpoints": {"type": "object"},
        "settings": {"type": "object", "properties": FACTS},
        "inputs": {"type": "object"},
        "command": {"type": "string"},
        "finished": {"type": "boolean"},
    },
}

Inputs = Sequence[str | Path | None]


def made_by(settings: Mapping[str, Any], made_up: bool = False) -> dict[str, Any]:
    """Return the provenance of results: command, time, versions, commit, cohort, split, cleanup and weights.

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
    """Return the provenance record of inference with these `common.options.Options`: `made_by` plus "settings"."""
    return made_by(options.record()) | {"settings": options.of_results()}


def read(folder: str | Path) -> dict[str, Any] | None:
    """Read the provenance record of a folder's results; None if there is none."""
    file = Path(folder) / MADE
    return valid_json(file, "a provenance record", SCHEMA) if file.exists() else None


def read_with_warning(folder: str | Path) -> dict[str, Any] | None:
    """Read the provenance record of a folder's results, and warn if the command that makes them has not finished.

    Return None if `made.json` is missing or invalid.
    """
    made = None
    with suppress(InputError):
        made = read(folder)
    if made is not None and not made.get("finished", True):
        command = made.get("command", "unknown")
        show(f"warning: {folder}: incomplete: its command has not finished: {command}", error=True)
    return made


def stated(made: Mapping[str, Any], name: str) -> str | None:
    """Return a fact about label maps, such as cleanup, from their provenance record; None if the record lacks it."""
    return (dict(made) | made["settings"]).get(name)  # resampled label maps have the facts outside "settings"


class Results:
    """Results of subjects, or of other units, in a folder; `made.json` records weights, settings and input files.

    All results of a folder share weights and settings. A unit is current if the weights, the settings and the unit's
    input files are unchanged.

    `made` is the provenance record of this command: `made_by` plus "settings".
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
        return self.inputs.get(unit) == _digest_of(files)

    def begin(self, units: Collection[str] = ()) -> None:
        """Record, before the work, that these units have no results; `add` records results later."""
        self.inputs = {unit: digests for unit, digests in self.inputs.items() if unit not in units}
        self._write(finished=False)

    def add(self, units: Mapping[str, Inputs], finished: bool = False) -> None:
        """Record that the results of these units are complete; `units` maps each unit to its input files.

        `finished` records that the whole command is complete.
        """
        self.inputs |= {unit: _digest_of(files) for unit, files in units.items()}
        self._write(finished)

    def _write(self, finished: bool) -> None:
        write_json(self.folder / MADE, self.made | {"inputs": self.inputs, "finished": finished})


def _digest_of(files: Inputs) -> str:
    """Hash the SHA-256 digests of files, in order; None and missing files count as empty digests."""
    digests = [digest(file) if file and Path(file).is_file() else "" for file in files]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _difference(earlier: Mapping[str, Any] | None, made: Mapping[str, Any]) -> str:
    """Describe the first difference between two provenance records; empty if there is none.

    Weights are compared by SHA-256, not by path.
    """
    if earlier is None:
        return f"results of unknown weights (no {MADE})"
    if sorted(earlier["checkpoints"].values()) != sorted(made["checkpoints"].values()):
        old, new = (shortened([*record["checkpoints"]]) for record in (earlier, made))
        return f"results of the weights {old}, not of {new}"
    theirs, ours = earlier["settings"], made["settings"]
    names = [name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name)]
    return "".join(f"results with {name}={theirs.get(name)}, not {ours.get(name)}" for name in sorted(names)[:1])


def _command() -> str:
    """Return this process's command line, quoted for a shell."""
    module = getattr(sys.modules["__main__"], "__spec__", None)
    program = sys.argv[:1] if module is None else ["-m", module.name.removesuffix(".__main__")]
    return command_line(["python", *program, *sys.argv[1:]])


def _git_commit() -> str | None:
    """Return the commit of the checkout that tracks this file, with `-dirty` for uncommitted changes, else None."""
    file = Path(__file__).resolve()

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(file.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", file.name)
        return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.CalledProcessError):  # no git, or a package outside a checkout
        return None
