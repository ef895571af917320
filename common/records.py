"""The origin of a result: command, time and software, and the cohort and weights in a run's settings."""

import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .cli import command_line
from .files import digest
from .weights.storage import versions


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
