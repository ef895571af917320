"""What made a result: command, time, software, cohort and weights; and `made.json`, which says so in its folder.

Whoever reuses or skips results asks `Results`; `read_with_warning` tells whoever reads them that more are to come.
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

MADE = "made.json"
PARTS: dict[str, Any] = {name: {"type": "object"} for name in ("checkpoints", "settings", "inputs")}
PARTS["settings"] |= {"properties": {"cleanup": {"type": ["string", "null"]}}}
SCHEMA = {
    "type": "object",
    "required": ["checkpoints", "settings"],
    "properties": PARTS | {"command": {"type": "string"}, "finished": {"type": "boolean"}},
}

Inputs = Sequence[str | Path | None]


def made_by(settings: Mapping[str, Any], made_up: bool = False) -> dict[str, Any]:
    """The command, time, versions and commit of this process; of its settings, the cohort, the split, the cleanup and
    the checkpoints' SHA-256.

    `made_up` says that the subjects are computed; they are, whatever it says, if the cohort is `embedded`.
    """
    from .weights.storage import versions  # late import: readers of made.json do without PyTorch

    checkpoints = settings.get("checkpoint") or []
    paths = [checkpoints] if isinstance(checkpoints, str | Path) else checkpoints
    return {
        "command": _command(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "git_commit": _git_commit(),
        **{name: settings.get(name) for name in ("cohort", "split", "cleanup")},
        "made_up": made_up or settings.get("cohort") == "embedded",
        "checkpoints": {str(path): digest(path) for path in paths},
    }


def made_of(options: Any) -> dict[str, Any]:
    """What makes the results of an inference with these `common.options.Options`: `made_by`, and the "settings"."""
    return made_by(options.record()) | {"settings": options.of_results()}


def read(folder: str | Path) -> dict[str, Any] | None:
    """What made a folder's results; None if it does not say."""
    file = Path(folder) / MADE
    return valid_json(file, "what made the results", SCHEMA) if file.exists() else None


def read_with_warning(folder: str | Path) -> dict[str, Any] | None:
    """What made the results that a command reads, with a warning if the command that makes them has not ended.

    None if the folder does not say, also where a file of another program has the name of ours.
    """
    made = None
    with suppress(InputError):
        made = read(folder)
    if made is not None and not made.get("finished", True):
        command = made.get("command", "unknown")
        show(f"warning: {folder}: incomplete; expected the end of its command: {command}", error=True)
    return made


class Results:
    """The results of units, such as subjects, in a folder; `made.json` says what made them, and of what.

    The results of a folder share weights and settings. A unit is current if it was made by them, of the same inputs.

    Args:
        folder: Folder of the results.
        made: What makes them now: `made_by`, with "settings".
    """

    def __init__(self, folder: str | Path, made: Mapping[str, Any]) -> None:
        self.folder, self.made, earlier = Path(folder), dict(made), read(folder)
        self.difference = _difference(earlier, made)
        self.inputs: dict[str, str] = {} if earlier is None or self.difference else dict(earlier.get("inputs", {}))

    def check(self, kept: Collection[str]) -> None:
        """Refuse to put results beside those that the units `kept` have from other weights or settings."""
        if kept and self.difference:
            units, cure = shortened(sorted(kept)), "another output_dir, or existing=replace for all of these"
            raise InputError(f"{self.folder}: {self.difference}: {units}; expected {cure}")

    def is_current(self, unit: str, files: Inputs) -> bool:
        """Whether a unit has results of these files."""
        return self.inputs.get(unit) == _digest_of(files)

    def begin(self, units: Collection[str] = ()) -> None:
        """State what makes the results; these units have none until `add`."""
        self.inputs = {unit: digests for unit, digests in self.inputs.items() if unit not in units}
        self._write(finished=False)

    def add(self, units: Mapping[str, Inputs], finished: bool = False) -> None:
        """State that the results of units are complete, with the files that they were made of.

        `finished` says that the command ends.
        """
        self.inputs |= {unit: _digest_of(files) for unit, files in units.items()}
        self._write(finished)

    def _write(self, finished: bool) -> None:
        write_json(self.folder / MADE, self.made | {"inputs": self.inputs, "finished": finished})


def _digest_of(files: Inputs) -> str:
    """SHA-256 over the SHA-256 of files, in their order; a file that is None or missing counts as such."""
    digests = [digest(file) if file and Path(file).is_file() else "" for file in files]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _difference(earlier: Mapping[str, Any] | None, made: Mapping[str, Any]) -> str:
    """The first difference in what made two sets of results, in words; empty if there is none.

    Weights are compared by their SHA-256, wherever the files lie.
    """
    if earlier is None:
        return f"results of unknown weights (no {MADE})"
    if sorted(earlier["checkpoints"].values()) != sorted(made["checkpoints"].values()):
        old, new = (shortened([*each["checkpoints"]]) for each in (earlier, made))
        return f"results of the weights {old}, not of {new}"
    theirs, ours = earlier["settings"], made["settings"]
    names = [name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name)]
    return "".join(f"results with {name}={theirs.get(name)}, not {ours.get(name)}" for name in sorted(names)[:1])


def _command() -> str:
    """The command line of this process, quoted for a shell."""
    module = getattr(sys.modules["__main__"], "__spec__", None)
    program = sys.argv[:1] if module is None else ["-m", module.name.removesuffix(".__main__")]
    return command_line(["python", *program, *sys.argv[1:]])


def _git_commit() -> str | None:
    """The commit of the checkout that tracks this file, with `-dirty` for uncommitted changes."""
    file = Path(__file__).resolve()

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(file.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", file.name)
        return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.CalledProcessError):  # no git, or a package outside a checkout
        return None
