"""Choose the state that a run continues from, and check that its options allow it."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import ArgumentError, InputError, show
from ..options import OPTIONS
from ..weights.storage import load

RESUMABLE = {option.name for option in OPTIONS.values() if option.resumable} | {
    "epochs",
    "dataset",
}  # derived from iterations; "subjects" decides
# Changes that a user may accept -> the settings that differ
CHANGES = {"subjects": ("subjects", "dataset", "missing_modalities"), "learning_rate": ("learning_rate",)}


class Resumed(NamedTuple):
    """The state `file` from which a run continues, None for a new run, and the changes that its user accepted so far.

    A change has the `iteration` and the settings `before` and `after`.
    """

    file: Path | None = None
    changes: tuple[Mapping[str, Any], ...] = ()


def resumable(
    save_dir: str | Path, resume: bool | str, settings: Mapping[str, Any] | None = None, accepted: Sequence[str] = ()
) -> Resumed:
    """The state from which a run continues.

    With True a file must exist; with False none may; "auto" takes the last whole `iteration-N.pt`, if any. Settings
    that affect the result must match the file's, except for `accepted` keys of `CHANGES`. Only the training subjects
    may change: those for validation and testing stay, so that scores are comparable and no test subject was trained on.
    """
    folder = Path(save_dir)
    saved = saved_states(folder)
    if accepted and not resume:
        raise ArgumentError("resume_changes", [*accepted], "only for a resumed run", "resume=true or auto")
    if resume is True and not saved:
        raise ArgumentError("resume", "true", f"no iteration-N.pt in {folder}")
    if resume and saved:
        file, before = _last_whole(saved, goes_back=resume == "auto")
        return Resumed(file, _changes(before, settings or {}, file, accepted))
    if resume is False and (earlier := [*saved, *folder.glob("model.pt")]):
        going_on = "resume=true to continue it, or " if saved else ""
        raise ArgumentError(
            "ckpt_dir", folder, f"holds the {earlier[0].name} of an earlier run", f"{going_on}another folder"
        )
    return Resumed()


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


def _changes(before: Any, now: Mapping[str, Any], file: Path, accepted: Sequence[str]) -> tuple[Mapping[str, Any], ...]:
    """The changes of a run so far; refuse settings that differ, except those for length, speed and the data's location.

    `accepted` are keys of `CHANGES` that may differ as well.
    """
    if not isinstance(before, Mapping):
        raise InputError(file, "lacks the settings of its run")
    if (bundle := now.get("bundle")) not in (None, before.get("bundle")):
        raise InputError(file, f"a training of {before.get('bundle')}", f"one of {bundle}")
    may_differ = {setting for change in accepted for setting in CHANGES[change]}
    if before.get("subjects") != now.get("subjects"):
        is_training = before.get("held_out") == now.get("held_out")
        if not (is_training and "subjects" in accepted):
            cure = "; resume_changes=[subjects] accepts others for training" * is_training
            raise ArgumentError(
                "datalist",
                now.get("datalist"),
                f"its subjects or splits differ from those that {file} was trained on{cure}",
            )
    known, wanted = dict(before.get("components") or {}), now.get("components", {})
    if "learning_rate" in accepted:
        known, wanted = _without_rate(known, before), _without_rate(wanted, now)
    pairs = [
        (name, before[name], now[name])
        for name in sorted(before.keys() & now.keys() - RESUMABLE - may_differ - {"components"})
    ]
    lacking = sorted((now.keys() - before.keys()) & OPTIONS.keys() - RESUMABLE - may_differ)
    pairs += [(name, None, now[name] or None) for name in lacking]  # off, as without the option
    pairs += [(name, known.get(name), wanted[name]) for name in sorted(wanted)] if known else []
    for name, was, wish in pairs:  # components last: they contain the options' values
        if was != wish:
            cure = f"; resume_changes=[{name}] accepts that" if name in CHANGES else ", which cannot change"
            raise ArgumentError(name, wish, f"the run to resume has {was}{cure}")
    earlier = tuple(before.get("changes", ()))
    if all(before.get(change) == now.get(change) for change in accepted):
        return earlier
    iteration = int(file.stem.split("-")[1])
    if iteration >= now.get("iterations", math.inf):
        raise ArgumentError(
            "resume_changes", [*accepted], f"the run has ended at iteration {iteration}", "more --iterations"
        )
    names = sorted(name for name in may_differ if before.get(name) != now.get(name))
    was, wish = ({name: settings.get(name) for name in names} for settings in (before, now))
    return (*earlier, {"iteration": iteration, "before": was, "after": wish})


def describe(change: Mapping[str, Any]) -> str:
    """A line for a change that was accepted.

    Example:
        >>> describe({"iteration": 40, "before": {"learning_rate": 0.1}, "after": {"learning_rate": 0.01}})
        'changed at iteration 40: learning_rate 0.1, now 0.01'
    """
    before, after = (
        {name: value[:8] if name == "subjects" else value for name, value in change[part].items()}  # of a digest
        for part in ("before", "after")
    )
    values = (f"{name} {value}, now {after[name]}" for name, value in before.items())
    return f"changed at iteration {change['iteration']}: {'; '.join(values)}"


def _without_rate(components: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Components without the learning rate of the settings."""
    rate = ("lr", settings.get("learning_rate"))
    return {
        name: dict(item for item in part.items() if item != rate) if isinstance(part, Mapping) else part
        for name, part in components.items()
    }
