"""What ends a run in one line: bad input, and options that no config knows.

MONAI wraps an exception from a config in the text of the whole section, and takes a misspelt option in silence.
Every `initialize` section and every command line therefore begins with this module.
"""

import ast
import difflib
import inspect
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

__all__ = ["InputError", "check_options", "flag", "options_of", "reason", "report_in_one_line", "start"]


class InputError(ValueError):
    """Bad input from outside; the message names the culprit, its value and what was expected, in one line."""


def start() -> None:
    """Check this process's options and let an `InputError` end it with one line and status 2."""
    report_in_one_line()
    check_options(sys.argv)


def report_in_one_line() -> None:
    """From now on an uncaught exception that began as an `InputError` prints one line; the exit status is 2."""
    sys.excepthook = _excepthook


def _excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    message = reason(error)
    if message is None:
        sys.__excepthook__(kind, error, trace)
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


def flag(name: str, value: bool | str) -> bool:
    """The value of an option that is true or false; on a command line `true` arrives as text, which counts as it reads.

    Raises:
        InputError: the value is neither.
    """
    known = {"true": True, "false": False}
    if str(value).lower() not in known:
        raise InputError(f"--{name}={value}: expected true or false")
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
