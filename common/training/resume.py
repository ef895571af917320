"""Choose the saved state from which a run continues, and check that the run's options match it."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import ArgumentError, InputError, show
from ..values import OFF, OPTIONS, RESUMABLE, UNRECORDED
from ..weights.storage import load

# "epochs" follows from the iterations, "dataset" from the subjects
MAY_CHANGE = RESUMABLE | {"epochs", "dataset"}
# Changes that a user may accept -> settings that may then differ
CHANGES = {"subjects": ("subjects", "dataset", "missing_modalities"), "learning_rate": ("learning_rate",)}


class Resumed(NamedTuple):
    """Saved state from which a run continues, `file` (None: a new run), and all accepted changes of its settings.

    Each change is a mapping with `iteration` and the settings `before` and `after`.
    """

    file: Path | None = None
    changes: tuple[Mapping[str, Any], ...] = ()


def resumable(
    save_dir: str | Path, resume: bool | str, settings: Mapping[str, Any] | None = None, accepted: Sequence[str] = ()
) -> Resumed:
    """Return the saved state from which a run continues.

    `resume` is True (continue from the last `iteration-N.pt`), "auto" (from the last readable one, if any) or False
    (neither `iteration-N.pt` nor model.pt may exist). Settings that affect the result must match the saved ones, except
    for `accepted` keys of `CHANGES`. Only training subjects may change, so that scores stay comparable.
    Without `settings`, nothing is compared.

    Raises:
        InputError: The file is damaged, or from a different bundle.
        ArgumentError: The files in `save_dir` contradict `resume`, a setting differs, or `accepted` is given for a run
            that is new or has ended.
    """
    folder = Path(save_dir)
    saved = saved_states(folder)
    if accepted and not resume:
        raise ArgumentError("resume_changes", [*accepted], "only for a resumed run", "resume=true or auto")
    if resume is True and not saved:
        raise ArgumentError("resume", "true", f"no iteration-N.pt in {folder}")
    if resume and saved:
        file, before = last_readable(saved, falls_back=resume == "auto")
        return Resumed(file, () if settings is None else _changes(before, settings, file, accepted))
    if resume is False and (earlier := [*saved, *folder.glob("model.pt")]):
        advice = "resume=true to continue it, or " if saved else ""
        raise ArgumentError(
            "ckpt_dir", folder, f"holds the {earlier[0].name} of an earlier run", f"{advice}another folder"
        )
    return Resumed()


def saved_states(folder: Path) -> list[Path]:
    """Return the `iteration-N.pt` files of a folder, oldest first."""
    files = (path for path in folder.glob("iteration-*.pt") if re.fullmatch(r"iteration-\d+", path.stem))
    return sorted(files, key=iteration_of)


def iteration_of(file: Path) -> int:
    """Return the iteration in the name of a saved state."""
    return int(file.stem.removeprefix("iteration-"))


def last_readable(saved: Sequence[Path], falls_back: bool) -> tuple[Path, Mapping[str, Any]]:
    """Return the last readable file of `saved` and its settings; print a line for each damaged file after it.

    Raise `InputError` if all files are damaged or, without `falls_back`, if the last is.
    """
    try:
        settings = load(saved[-1]).get("metadata")
        if not isinstance(settings, Mapping):
            raise InputError(saved[-1], "lacks the settings of its run")
        return saved[-1], settings
    except InputError as error:
        if len(saved) == 1:
            raise
        if not falls_back:
            raise InputError(f"{error}; delete it to continue from {saved[-2].name}") from error
        show(f"resume: {error}; trying {saved[-2].name}", error=True)
    return last_readable(saved[:-1], falls_back)


def _changes(
    before: Mapping[str, Any], now: Mapping[str, Any], file: Path, accepted: Sequence[str]
) -> tuple[Mapping[str, Any], ...]:
    """Return the accepted changes so far, with this run's.

    Raise `InputError` if a setting differs and neither `MAY_CHANGE` nor a key of `CHANGES` in `accepted` allows it.
    """
    if (bundle := now.get("bundle")) not in (None, before.get("bundle")):
        raise InputError(file, f"written by the bundle {before.get('bundle')}", f"the bundle {bundle}")
    may_differ = {setting for change in accepted for setting in CHANGES[change]}
    if before.get("subjects") != now.get("subjects"):
        is_training = before.get("held_out") == now.get("held_out")
        if not (is_training and "subjects" in accepted):
            hint = "; resume_changes=[subjects] accepts different training subjects" * is_training
            raise ArgumentError(
                "datalist", now.get("datalist"), f"subjects or splits differ from those of {file}{hint}"
            )
    saved_parts, parts = before.get("components") or {}, now.get("components", {})
    if "learning_rate" in accepted:
        saved_parts, parts = _without_rate(saved_parts, before), _without_rate(parts, now)
    recorded = OPTIONS.keys() - UNRECORDED
    compared = (now.keys() & before.keys()) | (now.keys() | before.keys()) & recorded
    compared -= MAY_CHANGE | may_differ | {"components"}
    pairs = [(name, *({**OFF, **run}.get(name, "none") for run in (before, now))) for name in sorted(compared)]
    pairs += [(name, saved_parts.get(name), parts[name]) for name in sorted(parts)] if saved_parts else []
    for name, saved, value in pairs:  # components last: they contain the options' values
        if saved != value:
            hint = f"; resume_changes=[{name}] accepts that" if name in CHANGES else ", which cannot change"
            raise ArgumentError(name, value, f"the run to resume has {saved}{hint}")
    earlier = tuple(before.get("changes", ()))
    if all(before.get(change) == now.get(change) for change in accepted):
        return earlier
    if (iteration := iteration_of(file)) >= now.get("iterations", math.inf):
        raise ArgumentError(
            "resume_changes", [*accepted], f"the run has ended at iteration {iteration}", "more --iterations"
        )
    names = sorted(name for name in may_differ if before.get(name) != now.get(name))
    old, new = ({name: settings.get(name) for name in names} for settings in (before, now))
    return (*earlier, {"iteration": iteration, "before": old, "after": new})


def describe(change: Mapping[str, Any]) -> str:
    """Describe in one line an accepted change of the settings when a run was resumed.

    Example:
        >>> describe({"iteration": 40, "before": {"learning_rate": 0.1}, "after": {"learning_rate": 0.01}})
        'changed at iteration 40: learning_rate 0.1, now 0.01'
    """
    before, after = (
        {name: value[:8] if name == "subjects" else value for name, value in change[part].items()}  # a digest
        for part in ("before", "after")
    )
    values = (f"{name} {value}, now {after[name]}" for name, value in before.items())
    return f"changed at iteration {change['iteration']}: {'; '.join(values)}"


def _without_rate(components: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return components without the learning rate in `settings`."""
    rate = ("lr", settings.get("learning_rate"))
    return {
        name: dict(item for item in part.items() if item != rate) if isinstance(part, Mapping) else part
        for name, part in components.items()
    }
