"""What ends a run in one line: bad input, and options that no config knows.

MONAI wraps an exception from a config in the text of the whole section, and takes a misspelt option in silence.
Every `initialize` section and every command line therefore begins with this module.
"""

import ast
import difflib
import errno
import inspect
import math
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = [
    "InputError",
    "check_device",
    "check_number",
    "check_options",
    "check_settings",
    "chosen",
    "flag",
    "optional",
    "options_of",
    "reason",
    "report_in_one_line",
    "start",
]


RANGES: dict[str, tuple[type, float, float]] = {  # kind, lowest and highest value of options that are numbers
    "batch_size": (int, 1, math.inf),
    "learning_rate": (float, 1e-12, 1e3),
    "warmup_iterations": (int, 0, math.inf),
    "iterations": (int, 1, math.inf),
    "val_interval": (int, 1, math.inf),
    "num_workers": (int, 0, math.inf),
    "cache_rate": (float, 0, 1),
    "seed": (int, 0, 99_999),  # each process adds 100,000 times its rank
    "save_interval": (int, 1, math.inf),
    "keep": (int, 1, math.inf),
    "max_grad_norm": (float, 1e-12, math.inf),
    "overlap": (float, 0, 0.99),
    "window_batch_size": (int, 1, math.inf),
    "least_overlap": (float, 0, 1),
}


FLAGS = {"activation_checkpointing", "compile", "gather_negatives", "probabilities"}
OPTIONAL = {"max_grad_norm"}  # may be null


Hook = Callable[[type[BaseException], BaseException, TracebackType | None], Any]


class InputError(ValueError):
    """Bad input from outside; the message names the culprit, its value and what was expected, in one line."""


def start() -> None:
    """Check this process's options and let an `InputError` end it with one line and status 2."""
    report_in_one_line()
    check_options(sys.argv)


def report_in_one_line(otherwise: Hook = sys.__excepthook__) -> None:
    """From now on an uncaught exception that began as an `InputError` prints one line; the exit status is 2.

    Ctrl-C prints one line, too, and ends the process as that signal does, which shells show as status 130.

    Args:
        otherwise: what tells of any other exception.
    """
    sys.excepthook = partial(_excepthook, otherwise)


def _excepthook(otherwise: Hook, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted", file=sys.stderr, flush=True)
        return
    message = reason(error)
    if message is None:
        otherwise(kind, error, trace)
        return
    print(f"error: {message}", file=sys.stderr, flush=True)
    raise SystemExit(2)


def reason(error: BaseException) -> str | None:
    """The message of the `InputError` that an exception began with, or None where there is none.

    An exception that comes from a DataLoader's worker carries its origin as text only; that text is read too.
    """
    link: BaseException | None = error
    while link is not None:
        if from_worker := re.findall(rf"^{__name__}\.InputError: (.+)$", str(link), flags=re.MULTILINE):
            return from_worker[-1]
        if isinstance(link, InputError):
            return str(link)
        link = link.__cause__ or link.__context__
    return None


def check_options(argv: Sequence[str]) -> None:
    """Refuse options of `python -m monai.bundle run` that none of its config files has.

    Args:
        argv: the command line, `sys.argv` in its form. Any other command than `monai.bundle run` is left alone.

    Raises:
        InputError: an option is neither one of `monai.bundle.run` nor a key of the configs.
    """
    if len(argv) < 2 or not argv[0].endswith("bundle/__main__.py") or argv[1] != "run":
        return
    from monai.bundle import ConfigParser, run  # here, as it takes seconds that other command lines need not wait

    _, options = options_of(argv[2:])
    if "args_file" in options:
        options = ConfigParser.load_config_file(options["args_file"]) | options
    files = _as_list(options.get("config_file", []))
    parser = ConfigParser()
    parser.read_config(files)
    known = set(inspect.signature(run).parameters) | {"workflow_type", "help"}
    for name, value in options.items():
        if name in known or name in parser:
            continue
        keys = sorted(key for key in parser.config if key != "_meta_")
        near = difflib.get_close_matches(name, [*keys, *known], n=1)
        hint = f"did you mean --{near[0]}?" if near else f"expected one of {', '.join(keys)}"
        raise InputError(f"--{name}={value}: no such option in {', '.join(map(str, files))}; {hint}")


def check_settings(settings: Mapping[str, Any], device: Any, folders: Sequence[str] = ()) -> None:
    """Hold what a user sets to what the workflow can do with it, before anything is read or written.

    Args:
        settings: values by the name of their option; those that have no rule are left alone.
        device: where the network will run.
        folders: that the run writes to; they are made where they are missing.

    Raises:
        InputError: a value is of the wrong kind or out of range, a device is not there, a folder cannot be written.
    """
    for name, (kind, lowest, highest) in RANGES.items():
        if name in settings and not (name in OPTIONAL and optional(settings[name]) is None):
            check_number(name, settings[name], kind, lowest, highest)
    self_supervised = settings.get("network") == "SSLHead"
    _check_patch(settings["patch_size"], self_supervised)
    if self_supervised and settings["batch_size"] < 2:
        raise InputError(
            f"--batch_size={settings['batch_size']}: expected 2 at least, as views are told apart in a batch"
        )
    if "val_interval" in settings and settings["iterations"] % settings["val_interval"]:
        interval = settings["val_interval"]
        raise InputError(f"--iterations={settings['iterations']}: expected a multiple of --val_interval={interval}")
    if settings.get("warmup_iterations", 0) > settings.get("iterations", math.inf):
        length = settings["iterations"]
        raise InputError(f"--warmup_iterations={settings['warmup_iterations']}: expected --iterations={length} at most")
    modalities = settings["modalities"]
    are_names = isinstance(modalities, list | tuple) and all(isinstance(name, str) for name in modalities)
    if not are_names or not modalities:
        raise InputError(f"--modalities={modalities}: expected a list such as \"['T1','FLAIR']\"")
    check_device("device", device)
    for name in FLAGS & settings.keys():
        flag(name, settings[name])
    for folder in folders:
        _check_folder(folder)


def check_number(name: str, value: Any, kind: type, lowest: float, highest: float = math.inf) -> None:
    """Hold an option to numbers of a kind, int or float, from `lowest` to `highest`.

    Raises:
        InputError: it is another one, or no number.
    """
    kinds = (int,) if kind is int else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not lowest <= value <= highest:
        whole = "a whole number" if kind is int else "a number"
        limits = f"from {lowest:g}" + ("" if highest == math.inf else f" to {highest:g}")
        raise InputError(f"--{name}={value}: expected {whole} {limits}")


def _check_patch(patch: Any, square: bool) -> None:
    fits = isinstance(patch, list | tuple) and len(patch) == 3 and all(isinstance(edge, int) for edge in patch)
    if not fits or any(edge < 64 or edge % 32 for edge in patch):
        raise InputError(f"--patch_size={patch}: expected three multiples of 32 from 64 on, such as [96,96,96]")
    if square and patch[0] != patch[1]:
        raise InputError(f"--patch_size={patch}: expected x and y equally long, as crops are turned about z")


def check_device(name: str, device: Any) -> None:
    """Hold an option to devices that are there.

    Raises:
        InputError: it names another one.
    """
    import torch

    try:
        kind = torch.device(device).type
    except (RuntimeError, TypeError):
        raise InputError(f"--{name}={device}: expected cpu, cuda or cuda:N") from None
    if kind not in ("cpu", "cuda"):
        raise InputError(f"--{name}={device}: expected cpu, cuda or cuda:N")
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError(f"--{name}={device}: no CUDA device here; expected cpu")


def _check_folder(folder: Any) -> None:
    if not isinstance(folder, str) or not folder:
        raise InputError(
            f"folder {folder!r} of --output_dir or --ckpt_dir: expected a path, such as ./{folder or 'eval'}"
        )
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}; expected a folder that can be written") from error


def chosen(name: str, value: Any, choices: Mapping[str, Any]) -> Any:
    """What an option's word stands for.

    Raises:
        InputError: `choices` has no such word.
    """
    if not isinstance(value, str) or value not in choices:
        raise InputError(f"--{name}={value}: expected one of {', '.join(choices)}")
    return choices[value]


def optional(value: Any) -> Any:
    """The value of an option that may be missing; a command line says so by null or none, as MONAI drops None there."""
    return None if str(value).lower() in ("null", "none") else value


def flag(name: str, value: bool | str, besides: str = "") -> bool:
    """The value of an option that is true or false; on a command line `true` arrives as text, which counts as it reads.

    Args:
        name: of the option.
        value: of the option.
        besides: another word that the option takes, for the message.

    Raises:
        InputError: the value is neither.
    """
    known = {"true": True, "false": False}
    if str(value).lower() not in known:
        words = f"true, false or {besides}" if besides else "true or false"
        raise InputError(f"--{name}={value}: expected {words}")
    return known[str(value).lower()]


def options_of(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Split a command line into its positional arguments and its options, as python-fire reads them.

    `--name value`, `--name=value` and `--flag` (value `""`) are options, and so they are with a single dash before a
    letter; `-` in a name counts as `_`.
    """
    positional: list[str] = []
    options: dict[str, str] = {}
    name = None
    for argument in arguments:
        if re.match(r"--.|-[A-Za-z]", argument):
            name, separator, value = argument.lstrip("-").partition("=")
            name = name.replace("-", "_")
            options[name] = value
            if separator:
                name = None
        elif name is not None:
            options[name] = argument
            name = None
        else:
            positional.append(argument)
    return positional, options


def _as_list(value: str | Sequence[str]) -> list[str]:
    if isinstance(value, str) and value.startswith("["):
        value = ast.literal_eval(value)
    return [value] if isinstance(value, str | Path) else list(value)
