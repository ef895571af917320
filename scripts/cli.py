"""Command lines: read that of this process, and run other commands of this project.

A command is an annotated function: python-fire splits the command line; a wrong argument ends in one line and status 2.
"""

import inspect
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args

import fire
from fire.decorators import SetParseFn
from fire.parser import DefaultParseValue

from common import ROOT
from common.environment import prepare_process
from common.errors import InputError, choice, did_you_mean, show
from common.values import names_of


def run(commands: Any, name: str, default: Callable[..., Any] | None = None) -> None:
    """Run the command line of this process; of several commands, the first word names one, else `default` runs."""
    prepare_process()
    arguments, is_help = sys.argv[1:], {"--help", "-h"} & {*sys.argv}
    command = commands
    if isinstance(commands, Mapping):
        names = ", ".join(commands)
        if arguments and arguments[0] in commands:
            command = commands[arguments.pop(0)]
        elif default is not None and (not arguments or arguments[0].startswith("-")):
            command = default
            if is_help:
                show(f"commands, each with --help: {names}; without a command:")
        elif not is_help:
            raise InputError(" ".join(arguments[:1]) or "no command", expected=f"one of {names}")
    if is_help:
        fire.Fire(command, command=["--", "--help"], name=name if "." in name else f"scripts.{name}")
    call = bound(command, arguments)
    command(*call.args, **call.kwargs)


def bound(command: Callable[..., Any], arguments: Sequence[str]) -> inspect.BoundArguments:
    """Return a command's arguments, converted to their annotated types; raise `InputError` if they do not fit."""
    signature = inspect.signature(command)
    takes_options = any(item.kind is item.VAR_KEYWORD for item in signature.parameters.values())

    @SetParseFn(str)
    def bind(*words: str, **options: str) -> inspect.BoundArguments:
        for option in () if takes_options else options.keys() - signature.parameters.keys():
            raise InputError(f"--{option}", f"no such option{did_you_mean(option, signature.parameters, '--')}")
        try:
            return signature.bind(*words, **options)
        except TypeError as error:
            raise InputError(" ".join([command.__name__, *arguments]), error) from error

    call: inspect.BoundArguments = fire.Fire(bind, command=[*arguments], serialize=lambda _: None)  # prints nothing
    for name, text in call.arguments.items():
        if isinstance(text, str):
            call.arguments[name] = converted(name, text, signature.parameters[name].annotation)
    return call


def converted(name: str, text: str, annotation: Any) -> Any:
    """Convert an argument's text to the annotated type of its parameter; text for a `str` stays as typed.

    Example:
        >>> converted("a", "1.10", str | None), converted("a", "1e-4", float), converted("a", "x, y", Sequence[str])
        ('1.10', 0.0001, ['x', 'y'])
    """
    kinds = {*get_args(annotation)} if isinstance(annotation, UnionType) else {annotation}
    if bool in kinds:
        return choice(name, text.lower(), {"true": True, "false": False})
    if text in ("", "True"):  # python-fire's value of an option without one
        raise InputError(f"--{name}", "no value")
    if Sequence[str] in kinds:
        return names_of(text)
    if kinds <= {str, NoneType}:
        return text
    value = DefaultParseValue(text)
    if kinds <= {int, float, NoneType} and not isinstance(value, int | float if float in kinds else int):
        raise InputError(f"--{name}={text}", expected="a number" if float in kinds else "a whole number")
    return value


def ending_of(status: int) -> str:
    """Describe how a process ended, from its exit status (negative after a signal)."""
    return f"ended with status {status}" if status != -signal.SIGKILL else "was killed, probably for lack of memory"


def words_of(options: Mapping[str, object]) -> list[str]:
    """Return options as words of a command line; those that are None are left out."""
    return [f"--{name}={value}" for name, value in options.items() if value is not None]


def run_step(command: Sequence[object], log: Path | None = None, environment: Mapping[str, str] = os.environ) -> None:
    """Print and run `python -m COMMAND`; raise SystemExit with its status if it fails.

    Output goes to the terminal, or to the end of `log`.
    """
    words = [str(word) for word in command]
    line = shlex.join(["python", "-m", *words]) + (f" >> {log}" if log else "")
    show(f"$ {line}")
    if log:
        log.parent.mkdir(parents=True, exist_ok=True)
    paths = os.pathsep.join([str(ROOT), *filter(None, [environment.get("PYTHONPATH")])])
    ours = {**environment, "PYTHONPATH": paths, "PYTHONSAFEPATH": "1"}  # no folder `common` of the current folder
    with log.open("ab") if log else nullcontext() as output:
        status = subprocess.run([sys.executable, "-m", *words], env=ours, stdout=output, stderr=output).returncode
    if status:
        show(f"{ending_of(status)}: {line}", error=True)
        raise SystemExit(status if status > 0 else 128 - status)
