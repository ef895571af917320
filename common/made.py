"""What made a result: command, time, software, cohort and weights; and `made.json`, which says so in its folder."""

import hashlib
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .cli import command_line
from .errors import InputError, shortened
from .files import digest, valid_json, write_json
from .weights.storage import versions

MADE = "made.json"
SCHEMA = {
    "type": "object",
    "required": ["checkpoints", "settings"],
    "properties": {"checkpoints": {"type": "object"}, "settings": {"type": "object"}} | {"inputs": {"type": "object"}},
}


def made_by(settings: Mapping[str, Any], made_up: bool = False) -> dict[str, Any]:
    """The command, time, versions and commit of this process; the cohort and the checkpoints' SHA-256 of its settings.

    `made_up` says that the subjects are computed; they are, whatever it says, if the cohort is `embedded`.
    """
    checkpoints = settings.get("checkpoint") or []
    paths = [checkpoints] if isinstance(checkpoints, str | Path) else checkpoints
    return {
        "command": _command(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "git_commit": _git_commit(),
        "cohort": settings.get("cohort"),
        "made_up": made_up or settings.get("cohort") == "embedded",
        "checkpoints": {str(path): digest(path) for path in paths},
    }


def made_of(options: Any) -> dict[str, Any]:
    """What makes the results of an inference with these `common.options.Options`: `made_by`, and the "settings"."""
    return made_by(options.record()) | {"settings": options.of_results()}


def read(folder: str | Path) -> dict[str, Any] | None:
    """What made a folder's results; None if it does not say."""
    file = Path(folder) / MADE
    return valid_json(file, "what an inference wrote", SCHEMA) if file.exists() else None


def digest_of(files: Sequence[str | Path | None]) -> str:
    """SHA-256 over the SHA-256 of files, in their order; a file that is None or missing counts as such."""
    digests = [digest(file) if file and Path(file).is_file() else "" for file in files]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def inputs_in(made: Mapping[str, Any] | None) -> dict[str, str]:
    """For each subject of a folder's results, `digest_of` the files that it was made of, as far as the folder says."""
    return dict((made or {}).get("inputs", {}))


def write(folder: str | Path, made: Mapping[str, Any]) -> None:
    """State what makes a folder's results."""
    write_json(Path(folder) / MADE, made)


def difference(earlier: Mapping[str, Any] | None, made: Mapping[str, Any]) -> str:
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


def check(folder: str | Path, made: Mapping[str, Any], kept: Collection[str]) -> None:
    """Refuse to put results beside those that the subjects `kept` have from other weights or settings."""
    if kept and (why := difference(read(folder), made)):
        subjects = shortened(sorted(kept))
        raise InputError(
            f"{folder}: {why}: {subjects}; expected another output_dir, or existing=replace for all of these"
        )


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
