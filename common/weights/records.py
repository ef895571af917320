"""Checkpoint files and versions; imports no PyTorch, so that commands refuse missing files at once."""

import platform
from importlib.metadata import version
from pathlib import Path

from .. import __version__
from ..errors import InputError


def check_file(path: str | Path) -> Path:
    """Return the path of a checkpoint; refuse a missing file."""
    if not Path(path).is_file():
        raise InputError(f"checkpoint {path}", "no such file")
    return Path(path)


def versions() -> dict[str, str]:
    """Return the versions of this software, Python and the main packages, for checkpoints and run records."""
    packages = {"torch": "torch", "monai": "monai", "ignite": "pytorch-ignite", "numpy": "numpy"}
    ours = {"brainsegfounder": __version__, "python": platform.python_version()}
    return ours | {name: version(package) for name, package in packages.items()}
