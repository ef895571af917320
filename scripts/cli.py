"""How every command line of this folder starts: python-fire, and one line with status 2 on bad input."""

import difflib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import fire

from common.preflight import InputError, options_of, report_in_one_line

__all__ = ["run"]

Command = Callable[..., Any]


def run(commands: Command | Mapping[str, Command], name: str, default: Command | None = None) -> None:
    """Run a function, or one of several by its command name, as a command line.

    Exit status 0 on success; 2 on bad input, which is named in one line. `--help` shows the docstrings.

    Args:
        commands: the function, or those that a command names.
        name: of the module, `python -m scripts.<name>`; with its package where that is another one.
        default: runs where no command is named, by options alone.
    """
    report_in_one_line()
    arguments = sys.argv[1:]
    asks_for_help = any(argument in ("--help", "-h", "--") for argument in arguments)
    if default is not None and isinstance(commands, Mapping) and (not arguments or arguments[0] not in commands):
        if arguments and not arguments[0].startswith("-"):
            raise InputError(f"command {arguments[0]}: expected {' or '.join(commands)}, or options alone")
        if asks_for_help:
            vars(default).update(commands)  # which python-fire's help then lists
        commands = default
    if not asks_for_help:
        _check(commands, arguments)
    fire.Fire(commands, name=f"python -m {name if '.' in name else f'scripts.{name}'}")


def _check(commands: Command | Mapping[str, Command], arguments: Sequence[str]) -> None:
    """Refuse what python-fire would only notice after it has run the command: unknown and missing arguments."""
    if isinstance(commands, Mapping):
        if not arguments or arguments[0] not in commands:
            given = arguments[0] if arguments else "nothing"
            raise InputError(f"command {given}: expected one of {', '.join(commands)}")
        command, arguments = commands[arguments[0]], arguments[1:]
    else:
        command = commands
    signature = inspect.signature(command).parameters.values()
    takes_any_number = any(parameter.kind is parameter.VAR_POSITIONAL for parameter in signature)
    parameters = {each.name: each for each in signature if each.kind is not each.VAR_POSITIONAL}
    positional, options = options_of(arguments)
    for option, value in options.items():
        if option not in parameters:
            near = difflib.get_close_matches(option, parameters, n=1)
            hint = f"did you mean --{near[0]}?" if near else f"expected one of --{', --'.join(parameters)}"
            raise InputError(f"--{option}={value}: no such option; {hint}")
    for option, value in options.items():
        if value == "" and parameters[option].annotation not in (bool, bool | None):
            raise InputError(f"--{option}: no value; expected one")
    left = [parameter for parameter in parameters.values() if parameter.name not in options]
    places = [parameter for parameter in left if parameter.kind is not parameter.KEYWORD_ONLY]
    if len(positional) > len(places) and not takes_any_number:
        raise InputError(f"argument {positional[-1]}: not expected; options are --{', --'.join(parameters)}")
    for parameter in left:
        if parameter not in places[: len(positional)] and parameter.default is inspect.Parameter.empty:
            raise InputError(f"--{parameter.name}: missing; it has no default")
