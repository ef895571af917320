"""Which state a run continues from, and whether its options allow that."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import ArgumentError, InputError, show
from ..options import OPTIONS
from ..weights.storage import load

__all__ = ["resumable", "saved_states"]

RESUMABLE = {option.name for option in OPTIONS.values() if option.resumable} | {
    "epochs",
    "dataset",
}  # what iterations amount to; "subjects" decides


def resumable(save_dir: str | Path, resume: bool | str, settings: Mapping[str, Any] | None = None) -> Path | None:
    """The file that a run continues from; None where it starts.

    Args:
        save_dir: folder where runs leave their `model.pt` and `iteration-N.pt`.
        resume: True, False, or "auto": continue if there is an `iteration-N.pt`, from the last one that is whole.
        settings: of the run; those that affect the result must match the file.

    Raises:
        InputError: True, but there is nothing to continue from; False, but files of an earlier run are there; the file
            cannot be read, or has other settings.
    """
    folder = Path(save_dir)
    saved = saved_states(folder)
    if resume is True and not saved:
        raise ArgumentError(f"resume=true: no iteration-N.pt in {folder}; expected one that a run has left")
    if resume and saved:
        file, before = _last_whole(saved, goes_back=resume == "auto")
        _check_settings(before, settings or {}, file)
        return file
    if resume is False and (earlier := [*saved, *folder.glob("model.pt")]):
        going_on = "resume=true to continue it, or " if saved else ""
        raise ArgumentError(
            f"ckpt_dir={folder}: holds the {earlier[0].name} of an earlier run; expected {going_on}another folder"
        )
    return None


def saved_states(folder: Path) -> list[Path]:
    """The `iteration-N.pt` of a folder, oldest first."""
    files = {path: re.fullmatch(r"iteration-(\d+)\.pt", path.name) for path in folder.glob("iteration-*.pt")}
    return sorted((path for path, match in files.items() if match), key=lambda path: int(path.stem.split("-")[1]))


def _last_whole(saved: Sequence[Path], goes_back: bool) -> tuple[Path, Any]:
    """The last file that can be read, and the settings in it; names those after it that cannot.

    Args:
        saved: at least one file, oldest first.
        goes_back: whether it may be another than the last one.

    Raises:
        InputError: there is none; where there is one before, the message says so.
    """
    try:
        return saved[-1], load(saved[-1]).get("metadata")
    except InputError as error:
        if len(saved) == 1:
            raise
        if not goes_back:
            raise InputError(f"{error}; without it, the run continues from {saved[-2].name}") from error
        show(f"resume: {error}; trying {saved[-2].name}", error=True)
    return _last_whole(saved[:-1], goes_back)


def _check_settings(before: Any, now: Mapping[str, Any], file: Path) -> None:
    """Refuse settings that differ, but for those of length, speed and the place of the data."""
    if not isinstance(before, Mapping):
        raise InputError(f"{file}: does not say its settings; expected a state that a run has left")
    if before.get("subjects") != now.get("subjects"):
        raise ArgumentError(
            f"datalist={now.get('datalist')}: other subjects, or in other splits, than {file} was trained on"
        )
    names = before.keys() & now.keys() - RESUMABLE - {"components"}
    for name in sorted(names):
        if before[name] != now[name]:
            raise ArgumentError(f"{name}={now[name]}: the run to resume has {before[name]}; expected the same")
    _check_components(before.get("components"), now.get("components", {}))  # last: the options' values are in them


def _check_components(before: Any, now: Mapping[str, Any]) -> None:
    """Refuse another loss, optimiser, schedule or transform."""
    known = dict(before) if isinstance(before, Mapping) else {}
    if "tasks" in now and "tasks" not in known:
        known.pop("loss", None)  # of a version whose loss held the settings of its tasks; options have most of them
    for name in sorted(now.keys() & known.keys()):
        if known[name] != now[name]:
            raise InputError(f"resume: {name} is {now[name]}; the run to resume has {known[name]}; expected the same")
