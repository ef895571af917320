"""Values of options, by kind: each kind checks a value, which may come from a command line as text, and converts it."""

import ast
import math
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from .data.preparation import PREPARATION_CHECKS
from .data.regions import CONVENTIONS, canonical
from .errors import ArgumentError, check_number, choice

__all__ = [
    "ALIASES",
    "AXES",
    "CHECKS_OF_PREPARATION",
    "CONVENTION",
    "DEVICE",
    "FILE",
    "FILES",
    "FOLDER",
    "LOSS_WEIGHTS",
    "MODALITIES",
    "NAMES",
    "PATCH_SIZE",
    "SPACING",
    "TEXT",
    "Kind",
    "check_device",
    "flag",
    "flags",
    "integers",
    "lengths",
    "numbers",
    "optional",
    "words",
]


def flag(name: str, value: Any, *words: str) -> Any:
    """True, false, or one of some words; a command line passes all of them as text.

    Raises:
        ArgumentError: the value is none of these.
    """
    known: dict[str, Any] = {"true": True, "false": False} | {word: word for word in words}
    if str(value).lower() not in known:
        *others, last = known
        raise ArgumentError(f"{name}={value}: expected {', '.join(others)} or {last}")
    return known[str(value).lower()]


def optional(value: Any) -> Any:
    """None for null or none, which a command line passes as text because MONAI drops None there."""
    return None if str(value).lower() in ("null", "none") else value


def check_device(name: str, device: Any) -> Any:
    """Check that PyTorch can use a device.

    Raises:
        ArgumentError: the device is unavailable.
    """
    import torch  # here because it is slow to import

    try:
        kind = torch.device(device).type
    except (RuntimeError, TypeError):
        kind = ""
    if kind not in ("cpu", "cuda"):
        raise ArgumentError(f"{name}={device}: expected cpu, cuda or cuda:N")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ArgumentError(f"{name}={device}: no CUDA device here; expected cpu")
    return device


def _path(name: str, value: Any) -> str:
    if not isinstance(value, str | Path) or not str(value).strip():
        raise ArgumentError(f"{name}={value}: expected a path; prefix numbers and lists with ./")
    return str(value)


def _paths(name: str, value: Any) -> str | list[str]:
    return [_path(name, each) for each in value] if isinstance(value, list | tuple) else _path(name, value)


def _modalities(name: str, value: Any) -> list[str]:
    if not isinstance(value, list | tuple) or not value or not all(isinstance(each, str) for each in value):
        raise ArgumentError(f"{name}={value}: expected a list such as \"['T1','FLAIR']\"")
    return list(value)


def _names(name: str, value: Any) -> list[str]:
    return [] if value in ([], ()) else _modalities(name, value)


def _literal(value: Any) -> Any:
    """A value that a command line may pass as Python text, such as a mapping."""
    if isinstance(value, str):
        with suppress(ValueError, SyntaxError):
            return ast.literal_eval(value)
    return value


def _aliases(name: str, value: Any) -> dict[str, str]:
    given = _literal(value)
    is_mapping = isinstance(given, Mapping) and len(given) > 0
    if not is_mapping or not all(isinstance(each, str) and each for pair in given.items() for each in pair):
        raise ArgumentError(f"{name}={value}: expected a mapping such as \"{{'T2': 'FLAIR'}}\"")
    return dict(given)


def _convention(name: str, value: Any) -> str:
    try:
        return canonical(str(value))
    except ArgumentError as error:
        raise ArgumentError(str(error).replace("label_convention=", f"{name}=", 1)) from error


def _patch_size(name: str, value: Any) -> list[int]:
    fits = isinstance(value, list | tuple) and len(value) == 3 and all(type(edge) is int for edge in value)
    if not fits or min(value) < 32 or max(value) < 64:
        raise ArgumentError(
            f"{name}={value}: expected three whole numbers, 32 or more, one of them at least 64, such as [96,96,96]"
        )
    return list(value)


def _spacing(name: str, value: Any) -> list[float]:
    is_list = isinstance(value, list | tuple) and len(value) == 3
    if not is_list or any(type(edge) not in (int, float) or not 0.1 <= edge <= 20 for edge in value):
        raise ArgumentError(f"{name}={value}: expected three numbers from 0.1 to 20, mm, such as [1,1,1]")
    return [float(edge) for edge in value]


def _loss_weights(name: str, value: Any) -> list[float] | dict[str, float]:
    given = _literal(value)
    weights = list(given.values()) if isinstance(given, Mapping) else given
    is_list = isinstance(weights, list | tuple) and len(weights) > 0
    if not is_list or any(type(one) not in (int, float) or not 0 <= one <= 1e3 for one in weights):
        raise ArgumentError(f"{name}={value}: expected numbers from 0 to 1000, such as [1,1,1] or {{'rotation': 0}}")
    if isinstance(given, Mapping):
        return {str(task): float(one) for task, one in given.items()}
    return [float(one) for one in weights]


def _axes(name: str, value: Any) -> list[int]:
    is_list = isinstance(value, list | tuple) and all(type(axis) is int and 0 <= axis <= 2 for axis in value)
    if not is_list or len(set(value)) < len(value):
        raise ArgumentError(f"{name}={value}: expected a list of the axes 0, 1, 2, each once at most, such as [0]")
    return list(value)


def _checks(name: str, value: Any) -> list[str]:
    given = value.split(",") if isinstance(value, str) else value
    if not isinstance(given, list | tuple) or not {str(check) for check in given} <= set(PREPARATION_CHECKS):
        raise ArgumentError(
            f"{name}={value}: expected a list of some of {', '.join(PREPARATION_CHECKS)}, such as [spacing]"
        )
    return [str(check) for check in given]


class Kind(NamedTuple):
    """A kind of values: how one is checked and converted, and a description of the accepted values."""

    parse: Callable[[str, Any], Any]
    values: str


def numbers(lowest: float, highest: float = math.inf, unit: str = "", kind: type = float) -> Kind:
    """Numbers of a kind, int or float, from `lowest` to `highest`, in a unit."""

    def parse(name: str, value: Any) -> Any:
        check_number(name, value, kind, lowest, highest)
        return value

    limits = f"from {lowest:g} to {highest:g}" if math.isfinite(highest) else f"from {lowest:g}"
    return Kind(parse, f"{'integer' if kind is int else 'number'} {limits}{unit and f', {unit}'}")


def integers(lowest: int, highest: float = math.inf, unit: str = "") -> Kind:
    """Whole numbers from `lowest` to `highest`, in a unit."""
    return numbers(lowest, highest, unit, int)


def lengths(lowest: int) -> Kind:
    """Iterations, or as text epochs of the training split, which `common.training.plan` turns into iterations."""

    def parse(name: str, value: Any) -> Any:
        if match := re.fullmatch(r"([0-9]*\.?[0-9]+) ?epochs?", str(value)):
            if float(match[1]):
                return f"{match[1]} epochs"
        elif type(value) is int and value >= lowest:
            return value
        expected = f"a whole number of iterations from {lowest}, or text such as 5 epochs or 2.5 epochs"
        raise ArgumentError(f"{name}={value}: expected {expected}")

    return Kind(parse, f"integer from {lowest}, iterations; or text such as 5 epochs")


def flags(*words: str) -> Kind:
    """True, false, or one of some words."""
    return Kind(lambda name, value: flag(name, value, *words), ", ".join(["true", "false", *words]))


def words(values: str) -> Kind:
    """One of some words, separated by commas."""
    known = dict.fromkeys(values.split(", "))

    def parse(name: str, value: Any) -> Any:
        choice(name, value, known)
        return value

    return Kind(parse, values)


TEXT = Kind(lambda _, value: str(value), "text")
FOLDER, FILE, FILES = Kind(_path, "folder"), Kind(_path, "file"), Kind(_paths, "file, or list of files")
DEVICE = Kind(check_device, "cpu, cuda, cuda:N")
MODALITIES = Kind(_modalities, "list of names")
NAMES = Kind(_names, "list of names, may be empty")
ALIASES = Kind(_aliases, "mapping of names")
PATCH_SIZE = Kind(_patch_size, "three multiples of 32, one of them at least 64, voxels")
SPACING = Kind(_spacing, "three numbers from 0.1 to 20, mm")
CONVENTION = Kind(_convention, f"{', '.join(CONVENTIONS)}, or regions such as core=1+3,whole=1+2+3")
LOSS_WEIGHTS = Kind(_loss_weights, "list of numbers from 0, or mapping of names to them")
CHECKS_OF_PREPARATION = Kind(_checks, f"list of {', '.join(PREPARATION_CHECKS)}")
AXES = Kind(_axes, "list of 0, 1, 2")
