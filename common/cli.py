"""Run command lines with python-fire, and report bad input in one line with status 2."""

import inspect
import os
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from shlex import quote
from types import MappingProxyType, NoneType, UnionType
from typing import Any, get_args

from .environment import check_help, prepare_process
from .errors import (
    InputError,
    chain_of,
    did_you_mean,
    input_error_message,
    let_interrupts_raise,
    one_line,
    path_error,
    place_in_user_code,
    show,
    show_error,
    traceback_of,
)
from .files import atomic_write
from .literals import literal, names_of, number_or_text, texts_of
from .memory import explain_out_of_memory

Command = Callable[..., Any]


def run(
    commands: Command | Mapping[str, Command], name: str, default: Command | None = None, confidential: bool = False
) -> None:
    """Run the command that the command line names; exit with 0, with 2 on bad input, or with 1 (see `log_unexpected`).

    A parameter for text takes it as typed, never as a Python literal (`reader_of`). `confidential` keeps unexpected
    arguments, which may name a patient, out of messages.
    """
    import fire  # imported here so that configs do not need it

    prepare_process(log_unexpected)
    arguments = sys.argv[1:]
    asks_for_help = any(argument in ("--help", "-h", "--") for argument in arguments)
    if asks_for_help:
        check_help()
    if default is not None and isinstance(commands, Mapping) and (not arguments or arguments[0] not in commands):
        if arguments and not arguments[0].startswith("-"):
            *others, last = commands
            known = " or ".join([", ".join(others), last] if others else [last])
            raise InputError(f"command {arguments[0]}", expected=f"{known}, or only options")
        if asks_for_help:
            vars(default).update(commands)  # python-fire's help lists them
        commands = default
    for command in commands.values() if isinstance(commands, Mapping) else [commands]:
        if asks_for_help:
            vars(command).pop("FIRE_METADATA", None)  # python-fire's help would list it as a command
        else:
            _read_by_annotation(command)
    if not asks_for_help:
        _check(commands, arguments, confidential)
    let_interrupts_raise()
    try:
        fire.Fire(commands, name=f"python -m {name if '.' in name else f'scripts.{name}'}")
        if sys.stdout is not None:  # closed, as by `>&-`
            sys.stdout.flush()
    except fire.core.FireExit:
        if asks_for_help:  # python-fire fails where a required argument is missing beside --help
            sys.exit(0)
        raise
    except BrokenPipeError:  # the reader of standard output has ended, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more when it ends
        sys.exit(128 + signal.SIGPIPE)


def log_unexpected(
    _: type[BaseException], error: BaseException, trace: object, options: Mapping[str, Any] = MappingProxyType({})
) -> None:
    """Report an unexpected exception in one line, write its traceback to a log, and exit with status 1.

    The line names the innermost line of user code, such as an overlay's transform, that the exception passed; has the
    exception's notes; and lists variables of the environment that may have caused it.

    The log is error.log in the output folder of a run with these options (error1.log of the process of rank 1), or else
    in a new folder for temporary files. Lack of memory and paths that cannot be used end with status 2.
    """
    status, line = 2, explain_out_of_memory(error, options)
    cause = error
    while cause.__cause__ is not None:  # not the context: a mistake in code that handles a missing file is none
        cause = cause.__cause__
    if (line := line or path_error(cause)) is None:
        links = list(chain_of(error))
        component = re.findall(r"Failed to instantiate component '(.+?)'", "\n".join(map(str, links)))
        culprit = f"{component[-1]}: " if component else ""
        message, place = input_error_message(error) or one_line(links[-1]), place_in_user_code(error)
        where = f" at {place}" if place not in message else ""
        notes = "".join(f"; {note}" for note in (*getattr(error, "__notes__", ()), *_variables(error)))
        status, line = 1, f"{culprit}{message}{where}{notes}; the traceback is in {_log(error, options)}"
    with suppress(OSError):  # a full or closed standard error does not change the status
        show_error(line)
    raise SystemExit(status)


def _variables(error: BaseException) -> list[str]:
    """Variables of the environment that change PyTorch, if it raised an exception, such as TORCH_LOGS."""
    libraries = re.findall(r"/(?:site|dist)-packages/(\w+)", traceback_of(error))
    prefixes = ("TORCH", "PYTORCH") if libraries[-1:] == ["torch"] else ()
    return [f"the environment has {name}={value}" for name, value in os.environ.items() if name.startswith(prefixes)]


def _log(error: BaseException, options: Mapping[str, Any]) -> Path:
    name = f"error{os.environ.get('RANK', '')}.log"
    folder = options.get("output_dir") or ("bundle_root" in options and f"{options['bundle_root']}/eval")
    try:
        log = Path(folder or tempfile.mkdtemp(prefix="traceback-")) / name
        with atomic_write(log) as file:
            file.write_text(traceback_of(error), encoding="utf-8", errors="backslashreplace")
    except (InputError, OSError, ValueError):  # no temporary folder, a path with a zero byte
        return _log(error, {}) if folder else Path(os.devnull)
    return log


def _read_by_annotation(command: Command) -> None:
    """Let python-fire read each argument as its parameter's annotation says; see `reader_of`."""
    from fire.decorators import SetParseFn

    SetParseFn(str)(command)  # of *arguments and **options
    for parameter in inspect.signature(command).parameters.values():
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            SetParseFn(reader_of(parameter.annotation), parameter.name)(command)


def reader_of(annotation: Any) -> Callable[[str], Any]:
    """The function that reads an argument's text for a parameter with this annotation; text stays as typed.

    Example:
        >>> reader_of(str | None)("1.10"), reader_of(str | float)("all"), reader_of(Sequence[str])("1.10,b")
        ('1.10', 'all', ['1.10', 'b'])
    """
    kinds = {*get_args(annotation)} if isinstance(annotation, UnionType) else {annotation}
    if Sequence[str] in kinds:
        return names_of
    if Mapping[str, str] in kinds:
        return texts_of
    if kinds <= {int, float, str, NoneType}:
        return number_or_text if kinds & {int, float} else str
    return literal


def _check(commands: Command | Mapping[str, Command], arguments: Sequence[str], confidential: bool) -> None:
    """Refuse unknown and missing arguments, which python-fire notices only after the command has run."""
    if isinstance(commands, Mapping):
        if not arguments or arguments[0] not in commands:
            given = arguments[0] if arguments else "nothing"
            raise InputError(f"command {given}", expected=f"one of {', '.join(commands)}")
        command, arguments = commands[arguments[0]], arguments[1:]
    else:
        command = commands
    signature = inspect.signature(command).parameters.values()
    takes_any_number = any(parameter.kind is parameter.VAR_POSITIONAL for parameter in signature)
    takes_any_option = any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature)
    parameters = {item.name: item for item in signature if item.kind not in (item.VAR_POSITIONAL, item.VAR_KEYWORD)}
    positional, options = options_of(arguments)
    for option, value in options.items():
        if option not in parameters and not takes_any_option:
            hint = did_you_mean(option, parameters, "--", f"expected one of --{', --'.join(parameters)}")
            place = next(
                place for place, text in enumerate(arguments, 1) if text[:1] == "-" and _name_of(text) == option
            )
            culprit = f"argument {place}" if confidential else f"--{option}={value}"  # its name may hold a path, too
            raise InputError(culprit, f"no such option{hint}")
    for option, value in options.items():
        is_flag = option in parameters and parameters[option].annotation in (bool, bool | None)
        if value == "" and not is_flag:
            raise InputError(f"--{option}", "no value")
    if "" in positional:
        raise InputError("argument ''", "empty", "a value")
    unset = [parameter for parameter in parameters.values() if parameter.name not in options]
    places = [parameter for parameter in unset if parameter.kind is not parameter.KEYWORD_ONLY]
    if len(positional) > len(places) and not takes_any_number:
        culprit = "" if confidential else f" {positional[-1]}"
        raise InputError(f"argument{culprit}", f"unexpected; options are --{', --'.join(parameters)}")
    for parameter in unset:
        if parameter not in places[: len(positional)] and parameter.default is inspect.Parameter.empty:
            raise InputError(f"--{parameter.name}", "missing; it has no default")


def options_of(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Split a command line into positional arguments and options, as python-fire reads them.

    Options are `--name value`, `--name=value` and `--flag` (value `""`), also with a single dash before a letter; `-`
    in a name counts as `_`. Of an option that is given twice the last value counts, with a warning.
    """
    positional: list[str] = []
    options: dict[str, str] = {}
    name = None
    for argument in arguments:
        if re.match(r"--.|-[A-Za-z]", argument):
            name, (_, separator, value) = _name_of(argument), argument.partition("=")
            if options.get(name, value) != value:
                show(f"warning: --{name}: given twice; the last value counts", error=True)
            options[name] = value
            if separator:
                name = None
        elif name is not None:
            options[name] = argument
            name = None
        else:
            positional.append(argument)
    return positional, options


def _name_of(argument: str) -> str:
    return argument.lstrip("-").partition("=")[0].replace("-", "_")


def command_line(arguments: Sequence[str]) -> str:
    """Quote arguments for a shell, in double quotes where they read better than single ones."""
    return " ".join(f'"{word}"' if "'" in word and not set(word) & set('"$`\\!') else quote(word) for word in arguments)
