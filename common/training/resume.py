"""Choose the state that a run continues from, and check that its options allow it."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import ArgumentError, InputError, show
from ..options import OPTIONS
from ..weights.storage import load

RESUMABLE = {option.name for option in OPTIONS.values() if option.resumable} | {
    "epochs",
    "dataset",
}  # derived from iterations; "subjects" decides


def resumable(save_dir: str | Path, resume: bool | str, settings: Mapping[str, Any] | None = None) -> Path | None:
    """The file from which a run continues; None for a new run.

    With True a file must exist; with False none may; "auto" takes the last whole `iteration-N.pt`, if any. Settings
    that affect the result must match the file's.
    """
    folder = Path(save_dir)
    saved = saved_states(folder)
    if resume is True and not saved:
        raise ArgumentError(f"resume=true: no iteration-N.pt in {folder}")
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
    """The last readable file and its settings; prints the names of damaged files after it.

    Only the last file is tried unless `goes_back`.
    """
    try:
        return saved[-1], load(saved[-1]).get("metadata")
    except InputError as error:
        if len(saved) == 1:
            raise
        if not goes_back:
            raise InputError(f"{error}; delete it to continue from {saved[-2].name}") from error
        show(f"resume: {error}; trying {saved[-2].name}", error=True)
    return _last_whole(saved[:-1], goes_back)


def _check_settings(before: Any, now: Mapping[str, Any], file: Path) -> None:
    """Refuse settings that differ, except those for length, speed and the data's location."""
    if not isinstance(before, Mapping):
        raise InputError(f"{file}: lacks the settings of its run")
    if (bundle := now.get("bundle")) not in (None, before.get("bundle")):
        raise InputError(f"{file}: a training of {before.get('bundle')}; expected one of {bundle}")
    if before.get("subjects") != now.get("subjects"):
        raise ArgumentError(
            f"datalist={now.get('datalist')}: its subjects or splits differ from those that {file} was trained on"
        )
    known, wanted = dict(before.get("components") or {}), now.get("components", {})
    pairs = [
        (name, before[name], now[name]) for name in sorted(before.keys() & now.keys() - RESUMABLE - {"components"})
    ]
    pairs += [(name, known[name], wanted[name]) for name in sorted(known.keys() & wanted.keys())]
    for name, was, wish in pairs:  # components last: they contain the options' values
        if was != wish:
            raise ArgumentError(f"{name}={wish}: the run to resume has {was}, which cannot change")
