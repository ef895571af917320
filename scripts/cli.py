"""How every command line of this folder starts: python-fire, and one line with status 2 on bad input."""

import difflib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import fire

from common.preflight import InputError, options_of, report_in_one_line

__all__ = ["run"]


def run(commands: Callable[..., Any] | Mapping[str, Callable[..., Any]], name: str) -> None:
    """Run a function, or one of several by its command name, as the command line `python -m scripts.<name>`.

    Exit status 0 on success; 2 on bad input, which is named in one line. `--help` shows the docstrings.
    """
    report_in_one_line()
    arguments = sys.argv[1:]
    if not any(argument in ("--help", "-h", "--") for argument in arguments):
        _check(commands, arguments)
    fire.Fire(commands, name=f"python -m scripts.{name}")


def _check(commands: Callable[..., Any] | Mapping[str, Callable[..., Any]], arguments: Sequence[str]) -> None:
    """Refuse what python-fire would only notice after it has run the command: unknown and missing arguments."""
    if isinstance(commands, Mapping):
        if not arguments or arguments[0] not in commands:
            given = arguments[0] if arguments else "nothing"
            raise InputError(f"command {given}: expected one of {', '.join(commands)}")
        command, arguments = commands[arguments[0]], arguments[1:]
    else:
        command = commands
    parameters = inspect.signature(command).parameters
    positional, options = options_of(arguments)
    for option, value in options.items():
        if option not in parameters:
            near = difflib.get_close_matches(option, parameters, n=1)
            hint = f"did you mean --{near[0]}?" if near else f"expected one of --{', --'.join(parameters)}"
            raise InputError(f"--{option}={value}: no such option; {hint}")
    for option, value in options.items():
        if value == "" and parameters[option].annotation not in (bool, bool | None):
            raise InputError(f"--{option}: no value; expected one")
    if len(positional) + len(options) > len(parameters):
        raise InputError(f"argument {positional[-1]}: not expected; options are --{', --'.join(parameters)}")
    remaining = [parameter for parameter in parameters.values() if parameter.name not in options][len(positional) :]
    for parameter in remaining:
        if parameter.default is inspect.Parameter.empty:
            raise InputError(f"--{parameter.name}: missing; it has no default")
