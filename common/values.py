"""Types of option values: each converts valid values, also text from a command line, and refuses invalid values."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from .data.cleanup import EXPECTED, cleanup_of, text_of
from .data.provenance import NAME
from .data.regions import CONVENTIONS, canonical
from .errors import ArgumentError, InputError
from .literals import literal, names_of, texts_of

# excludes text that a config evaluates, such as "$print()", and characters that file names cannot have
PLAIN_TEXT = re.compile(r"\w[^$@%{}\[\]/\\\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]{0,9999}")
LARGEST = 1e12  # limit of any number, so that numbers computed from options fit into a float

AUTO = "auto"


class Kind(NamedTuple):
    """Type of an option's values; `values` describes the accepted values, with the unit.

    `convert` raises ValueError or TypeError for an invalid value, or an `InputError` with a specific message. `read`
    parses command-line text; `str` keeps it as typed.
    """

    values: str
    convert: Callable[[Any], Any]
    read: Callable[[str], Any] = literal

    def parse(self, name: str, value: Any) -> Any:
        """Convert an argument's value; raise `ArgumentError` if it is invalid."""
        try:
            return self.convert(value)
        except ArgumentError as error:
            raise error.named(name) from error
        except InputError as error:
            raise ArgumentError(name, value, error) from error
        except (TypeError, ValueError) as error:
            raise ArgumentError(name, value, expected=self.values) from error


def _check(is_accepted: bool) -> None:
    if not is_accepted:
        raise ValueError


def numbers(lowest: float, highest: float = math.inf, unit: str = "", kind: type = float) -> Kind:
    """Return the option type of numbers from `lowest` to `highest`, in `unit`; `kind` is int or float."""

    def convert(value: Any) -> Any:
        kinds = (int,) if kind is int else (int, float)
        if kind is float and isinstance(value, str) and re.fullmatch(r"[-+]?\d+\.?\d*e[-+]?\d+", value, re.IGNORECASE):
            raise InputError("YAML reads this as text; write a point and a sign, as in 1.0e-4 or 1.0e+4")
        _check(isinstance(value, kinds) and not isinstance(value, bool) and lowest <= value <= min(highest, LARGEST))
        return value

    limits = f"from {lowest:g}" + (f" to {highest:g}" if math.isfinite(highest) else "")
    return Kind(f"{'a whole number' if kind is int else 'a number'} {limits}{unit and f', {unit}'}", convert)


integers = partial(numbers, kind=int)


def or_auto(kind: Kind) -> Kind:
    """Extend an option type by the word auto."""
    return Kind(f"{kind.values}, or {AUTO}", lambda value: value if value == AUTO else kind.convert(value), kind.read)


def lengths(lowest: int) -> Kind:
    """Return the option type of training lengths: iterations, at least `lowest`, or text such as "5 epochs"."""

    def convert(value: Any) -> Any:
        if match := re.fullmatch(r"([0-9]*\.?[0-9]+) ?epochs?", str(value)):
            _check(0 < float(match[1]) <= LARGEST)
            return f"{match[1]} epochs"
        _check(type(value) is int and lowest <= value <= LARGEST)
        return value

    return Kind(f"a whole number of iterations from {lowest}, or text such as 2.5 epochs", convert)


def words(values: str) -> Kind:
    """Return the option type that accepts the words in `values`, a list separated by commas."""

    def convert(value: Any) -> Any:
        _check(value in values.split(", "))
        return value

    return Kind(f"one of {values}", convert, str)


def flags(*others: str) -> Kind:
    """Return the option type that accepts true, false (also as text from a command line) and the words `others`."""
    choices: dict[str, Any] = {"true": True, "false": False} | {word: word for word in others}

    def convert(value: Any) -> Any:
        _check(str(value).lower() in choices)
        return choices[str(value).lower()]

    return Kind(" or ".join(filter(None, [", ".join([*choices][:-1]), [*choices][-1]])), convert, str)


def flag(name: str, value: Any) -> bool:
    """Convert an argument that is true or false, also as text."""
    return bool(flags().parse(name, value))


def optional(value: Any) -> Any:
    """Convert the texts null and none to None, and return other values; MONAI drops None on command lines."""
    return None if str(value).lower() in ("null", "none") else value


def _cohort(value: Any) -> str:
    _check(NAME.fullmatch(str(value)) is not None)
    return str(value)


def _device(value: Any) -> Any:
    match = re.fullmatch(r"cpu|cuda(?::(\d{1,3}))?", str(value))  # `value` may be a torch.device
    if match is None:
        raise ValueError
    if match[0] != "cpu":
        import torch  # imported here because it is slow

        count = torch.cuda.device_count()  # is_available could break CUDA in forked processes
        if int(match[1] or 0) >= count:
            raise InputError("available GPUs", count, f"cuda:0 to cuda:{count - 1} or cpu" if count else "cpu")
    return value


def _path(value: Any) -> str:
    if not isinstance(value, str | Path) or not str(value).strip():
        raise InputError("expected a path; if the name is a number or a list, write ./ before it")
    if "\0" in str(value):
        raise InputError("expected a path without zero bytes")
    return str(value)


def _list(value: Any) -> list[Any]:
    _check(isinstance(value, list | tuple))
    return list(value)


def _names(value: Any) -> list[str]:
    _check(all(isinstance(name, str) for name in _list(value)))
    return list(value)


def _modalities(value: Any) -> list[str]:
    _check(len(_names(value)) > 0)
    return [*map(_plain, value)]


def _plain(value: Any) -> str:
    _check(isinstance(value, str) and PLAIN_TEXT.fullmatch(value) is not None)
    return str(value)


def _aliases(value: Any) -> dict[str, str]:
    _check(isinstance(value, Mapping) and len(value) > 0)
    _check(all(isinstance(name, str) and name for pair in value.items() for name in pair))
    return dict(value)


def _three(kind: type, accepts: Callable[[Sequence[Any]], bool]) -> Callable[[Any], list[Any]]:
    """Return a converter for three numbers of a type, int or float."""

    def convert(value: Any) -> list[Any]:
        _check(len(_list(value)) == 3 and all(type(number) in (int, kind) for number in value) and accepts(value))
        return [kind(number) for number in value]

    return convert


def _loss_weights(value: Any) -> list[float] | dict[str, float]:
    weights = _list(list(value.values()) if isinstance(value, Mapping) else value)
    _check(len(weights) > 0 and all(type(weight) in (int, float) and 0 <= weight <= 1e3 for weight in weights))
    if isinstance(value, Mapping):
        return {str(task): float(weight) for task, weight in value.items()}
    return [float(weight) for weight in weights]


def _axes(value: Any) -> list[int]:
    _check(all(type(axis) is int and 0 <= axis <= 2 for axis in _list(value)) and len(set(value)) == len(value))
    return list(value)


def _files(text: str) -> str | list[str]:
    return names_of(text) if re.fullmatch(r"\[.*\]", text, re.DOTALL) else text


def some_of(*names: str) -> Kind:
    """Return the option type of lists of some, all or none of these names."""

    def convert(value: Any) -> list[str]:
        _check(set(_names(value)) <= set(names))
        return list(value)

    return Kind(f"a list of some of {', '.join(names)}, such as [{names[0]}]", convert, names_of)


COHORT = Kind("up to 100 letters, digits, spaces and . , ( ) ' + : -", _cohort, str)
FOLDER = Kind("folder", _path, str)
FILE = Kind("file", _path, str)
FILES = Kind(
    "a file or a list of files",
    lambda value: [*map(_path, value)] if isinstance(value, list | tuple) else _path(value),
    _files,
)
DEVICE = Kind("cpu, cuda or cuda:N", _device, str)
MODALITIES = Kind("a list of names, such as ['T1','FLAIR']", _modalities, names_of)
NAMES = Kind("a list of names, which may be empty", _names, names_of)
ALIASES = Kind("a mapping of names, such as {'T2': 'FLAIR'}", _aliases, texts_of)
PATCH_SIZE = Kind(
    "three multiples of 32 (8 for segresnet and transbts) from 32 to 512, the largest at least 64, such as [96,96,96], "
    "voxels",
    _three(int, lambda edges: min(edges) >= 32 and 64 <= max(edges) <= 512),
)
SPACING = Kind(
    "three numbers from 0.1 to 20, such as [1,1,1], mm",
    _three(float, lambda edges: all(0.1 <= edge <= 20 for edge in edges)),
)
EDGES = Kind("three whole numbers, such as [96, 96, 96]", _three(int, bool))
LENGTHS = Kind("three numbers, such as [1.0, 1.0, 1.0]", _three(float, bool))
TEXT = Kind("plain text", _plain, str)
CONVENTION = Kind(
    f"{', '.join(CONVENTIONS)}, or regions such as core=1+3,whole=1+2+3", lambda value: canonical(str(value)), str
)
CLEANUP = Kind(EXPECTED, lambda value: text_of(cleanup_of(_plain(value))), str)
LOSS_WEIGHTS = Kind("numbers from 0 to 1000, such as [1,1,1] or {'rotation': 0}", _loss_weights)
AXES = Kind("a list of different axes from 0, 1, 2, such as [0]", _axes)
