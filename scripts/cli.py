"""Command lines of annotated functions: python-fire splits them; a wrong argument ends in one line and status 2."""

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, get_args

import fire
from fire.decorators import SetParseFn
from fire.parser import DefaultParseValue

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
    calls: list[inspect.BoundArguments] = []
    signature = inspect.signature(command)
    takes_options = any(item.kind is item.VAR_KEYWORD for item in signature.parameters.values())

    @SetParseFn(str)
    def bind(*words: str, **options: str) -> None:
        for option in () if takes_options else options.keys() - signature.parameters.keys():
            raise InputError(f"--{option}", f"no such option{did_you_mean(option, signature.parameters, '--')}")
        try:
            calls.append(signature.bind(*words, **options))
        except TypeError as error:
            raise InputError(" ".join([command.__name__, *arguments]), error) from error

    fire.Fire(bind, command=[*arguments])
    for name, text in calls[0].arguments.items():
        if isinstance(text, str):
            calls[0].arguments[name] = converted(name, text, signature.parameters[name].annotation)
    return calls[0]


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
