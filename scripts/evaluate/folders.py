"""The folders of several evaluations that one command reads: their names, and what they must share."""

from collections.abc import Sequence
from pathlib import Path

from common.errors import InputError
from common.files import reporting_path_errors
from common.metrics.protocols import Protocol

__all__ = ["check_protocol", "named_folders"]


def named_folders(command: str, folders: Sequence[str], names: Sequence[str] | None = None) -> dict[str, Path]:
    """Folders by name, in their order.

    Args:
        command: that reads them, for messages.
        folders: two or more.
        names: one for each folder; by default the shortest distinct ends of their paths.

    Raises:
        InputError: there are fewer than two folders, or a folder occurs twice; the names are not distinct, or not as
            many as the folders.
    """
    if len(folders) < 2:
        raise InputError(f"{' '.join([command, *folders])}: {len(folders)} folders; expected at least two")
    paths: list[Path] = []
    for folder in folders:
        with reporting_path_errors(folder):
            path = Path(folder).expanduser().resolve()
        if path in paths:
            raise InputError(f"{folder}: given twice; expected each evaluation once")
        paths.append(path)
    if names is None:
        names = _distinct(paths)
    elif len(names) != len(folders) or len(set(names)) != len(names) or not all(name.strip() for name in names):
        raise InputError(f"--names={','.join(names)}: expected {len(folders)} distinct names")
    return {name: Path(folder).expanduser() for name, folder in zip(names, folders, strict=True)}


def _distinct(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that are distinct."""
    for length in range(1, max(len(path.parts) for path in paths)):
        ends = ["/".join(path.parts[-length:]) for path in paths]
        if len(set(ends)) == len(ends):
            return ends
    return [str(path) for path in paths]


def check_protocol(first: str | Path, expected: Protocol, other: str | Path, found: Protocol) -> None:
    """Check that two evaluations were made by the same protocol with the same settings.

    Args:
        first: folder of one evaluation.
        expected: its protocol.
        other: folder of the other one.
        found: its protocol.

    Raises:
        InputError: they differ; names the folder, the setting and both values.
    """
    ours, theirs = ({"protocol": protocol.name, **protocol.settings} for protocol in (expected, found))
    for name in [*ours, *theirs]:
        if ours.get(name) != theirs.get(name):
            value, wanted = theirs.get(name, "none"), ours.get(name, "none")
            raise InputError(f"{other}: {name} {value}; expected {wanted}, as in {first}")
