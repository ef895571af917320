"""Choose the saved state from which a run continues, and check that the run's options match it."""

import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import ArgumentError, InputError, show
from ..values import OFF, OPTIONS, RESUMABLE, UNRECORDED
from ..weights.storage import load


def resumable(folder: Path, resume: bool | str, settings: Mapping[str, Any]) -> Path | None:
    """Return the saved state `iteration-N.pt` from which a run continues; None for a new run.

    `resume` is True (continue from the last state), "auto" (from the last readable one, if any) or False (neither a
    state nor model.pt may exist).

    Raises:
        InputError: The file is damaged, or from a different bundle.
        ArgumentError: The files in `folder` contradict `resume`, or a setting that affects the result differs.
    """
    states = saved_states(folder)
    if not resume and (earlier := [*states, *folder.glob("model.pt")]):
        advice = "resume=true to continue it, or " if states else ""
        problem = f"holds the {earlier[0].name} of an earlier run"
        raise ArgumentError("ckpt_dir", folder, problem, f"{advice}another folder")
    if resume is True and not states:
        raise ArgumentError("resume", "true", f"no iteration-N.pt in {folder}")
    for file in reversed(states):
        try:
            before = load(file).get("metadata") or {}
        except InputError as error:
            if resume is True or file == states[0]:
                raise
            show(f"resume: {error}; trying the state before it", error=True)
        else:
            _check_settings(before, settings, file)
            return file
    return None


def saved_states(folder: Path) -> list[Path]:
    """Return the `iteration-N.pt` files of a folder, oldest first."""
    files = (path for path in folder.glob("iteration-*.pt") if re.fullmatch(r"iteration-\d+", path.stem))
    return sorted(files, key=lambda file: int(file.stem.removeprefix("iteration-")))


def _check_settings(before: Mapping[str, Any], now: Mapping[str, Any], file: Path) -> None:
    """Raise `InputError` if a setting that affects the result differs from that of the saved run."""
    if before.get("bundle") != now["bundle"]:
        raise InputError(file, f"written by the bundle {before.get('bundle')}", f"the bundle {now['bundle']}")
    if before.get("subjects") != now.get("subjects"):
        raise ArgumentError("datalist", now.get("datalist"), f"subjects or splits differ from those of {file}")
    # Options that one of both lacks are off; other settings may be known only later in a run
    names = (now.keys() & before.keys()) | ((now.keys() | before.keys()) & (OPTIONS.keys() - UNRECORDED))
    names -= RESUMABLE | {"epochs", "components"}  # epochs follow from the iterations
    parts, saved_parts = now.get("components", {}), before.get("components", {})
    pairs = [(name, {**OFF, **before}.get(name), {**OFF, **now}.get(name)) for name in sorted(names)]
    pairs += [(name, saved_parts.get(name), part) for name, part in parts.items()]  # last: they contain options' values
    for name, saved, value in pairs:
        if saved != value:
            raise ArgumentError(name, value, f"the run to resume has {saved}, which cannot change")


def random_state() -> dict[str, Any]:
    """Return the states of Python's, NumPy's and PyTorch's generators, in types that `weights_only=True` loads."""
    numpy = np.random.get_state(legacy=False)  # noqa: NPY002, MONAI draws from it
    numpy["state"] = {"key": torch.from_numpy(numpy["state"]["key"].astype(np.int64)), "pos": numpy["state"]["pos"]}
    state = {"python": random.getstate(), "numpy": numpy, "torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: Mapping[str, Any]) -> None:
    """Restore all generators from a result of `random_state`."""
    numpy = state["numpy"]
    key = numpy["state"]["key"].numpy().astype(np.uint32)
    random.setstate(state["python"])
    np.random.set_state(numpy | {"state": {"key": key, "pos": numpy["state"]["pos"]}})  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
