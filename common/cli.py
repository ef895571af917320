"""Run command lines with python-fire; bad input is reported in one line, with exit status 2."""

import inspect
import os
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from shlex import quote
from types import MappingProxyType, NoneType, UnionType
from typing import Any, get_args

from .environment import check_help, prepare_process
from .errors import (
    ArgumentError,
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
    commands: Command | Mapping[str, Command],
    name: str,
    default: Command | None = None,
    confidential: Callable[[], None] | None = None,
) -> None:
    """Run the command line of this process; report an error in one line, and exit with status 1 or 2.

    If `commands` is a mapping, the first argument names the command; without a name, `default` runs. An `ArgumentError`
    about a word is reported as in the help, `NAME=value: ...`.

    Exit status: 0; 2 for bad input; 1 for other errors (see `log_unexpected`). Text parameters receive the argument as
    typed, not parsed as a Python literal (see `reader_of`). For commands on patient data, `confidential` is a function
    that restricts the output of this process; unexpected arguments, which may name a patient, are then not quoted.
    """
    import fire  # imported here so that configs do not need it

    prepare_process(log_unexpected)
    if confidential is not None:
        confidential()
    arguments = sys.argv[1:]
    program = f"python -m {name if '.' in name else f'scripts.{name}'}"
    if {"--help", "-h"} & {*arguments}:
        check_help()
        words: Sequence[str] = ()
        work = partial(show, *_help(commands, default, arguments[0], program))
    else:
        if default is not None and isinstance(commands, Mapping) and (not arguments or arguments[0] not in commands):
            if arguments and not arguments[0].startswith("-"):
                raise InputError(f"command {arguments[0]}", expected=f"{', '.join(commands)}, or only options")
            commands = default
        for command in commands.values() if isinstance(commands, Mapping) else [commands]:
            _read_by_annotation(command)
        words = _check(commands, arguments, confidential is not None)
        work = partial(fire.Fire, commands, name=program)
    let_interrupts_raise()
    try:
        work()
        if sys.stdout is not None:  # None if closed, as by `>&-`
            sys.stdout.flush()
    except ArgumentError as error:
        if error.what not in words:
            raise
        raise InputError(error.what.upper(), error.problem, error.expected, error.value) from error
    except BrokenPipeError:  # the reader of standard output has exited, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes again at exit
        sys.exit(128 + signal.SIGPIPE)


def _help(commands: Command | Mapping[str, Command], default: Command | None, word: str, program: str) -> Iterator[str]:
    """Yield the lines of --help; `word` is the first argument."""
    if isinstance(commands, Mapping) and word in commands:
        commands, program = commands[word], f"{program} {word}"
    if not isinstance(commands, Mapping):
        yield from _description(commands, program)
        return
    if default is not None:
        yield from (*_description(default, program), "")
    titles = {name: inspect.cleandoc(command.__doc__ or "").splitlines()[0] for name, command in commands.items()}
    yield from (f"usage: {program} COMMAND [--OPTION=VALUE ...]", "", "Commands, each with --help:")
    yield from (f"    {name}: {title}" for name, title in titles.items())


def _description(command: Command, program: str) -> list[str]:
    """Return a command's usage, and its docstring with arguments as options; a default follows an option's name."""
    text = inspect.cleandoc(command.__doc__ or "").partition("\n\nRaises:")[0].replace("\nArgs:", "\nOptions:")
    parameters = inspect.signature(command).parameters.values()
    takes_any_number = any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters)
    usage = ["usage:", program]
    for parameter in parameters:
        name, value, option = parameter.name, parameter.default, f"--{parameter.name}"
        if parameter.kind is parameter.VAR_POSITIONAL:
            option = name.upper()
            usage.append(f"[{option} ...]")
        elif parameter.kind is parameter.VAR_KEYWORD:
            option = "--OPTION"
        elif value is parameter.empty:
            is_word = takes_any_number and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
            usage.append(name.upper() if is_word else f"{option}={name.upper()}")
        elif value not in (None, ""):
            option += f"={str(value).lower() if isinstance(value, bool) else value}"
        text = text.replace(f"\n    {name}: ", f"\n    {option}: ")
    return [f"{' '.join(usage)} [--OPTION=VALUE ...]", "", *text.splitlines()]


def log_unexpected(
    _: type[BaseException], error: BaseException, trace: object, options: Mapping[str, Any] = MappingProxyType({})
) -> None:
    """Report an unexpected exception in one line, write its traceback to a log, and exit with status 1.

    The line contains the exception's notes, the innermost line of user code in its traceback, such as an overlay's
    transform, and the environment variables that may have caused it.

    The log is error.log (error1.log if RANK is 1) in the run's output folder or, without a folder, in a new temporary
    folder. If memory runs out or a path cannot be used, there is no log, and the exit status is 2.
    """
    status, line = 2, explain_out_of_memory(error, options)
    cause = error
    while cause.__cause__ is not None:  # not __context__: a bug in the handler of a path error is still a bug
        cause = cause.__cause__
    if (line := line or path_error(cause)) is None:
        links = list(chain_of(error))
        component = re.findall(r"Failed to instantiate component '(.+?)'", "\n".join(map(str, links)))
        culprit = f"{component[-1]}: " if component else ""
        message, user_line = input_error_message(error) or one_line(links[-1]), place_in_user_code(error)
        where = f" at {user_line}" if user_line not in message else ""
        notes = "".join(f"; {note}" for note in (*getattr(error, "__notes__", ()), *_variables(error)))
        status, line = 1, f"{culprit}{message}{where}{notes}; the traceback is in {_log(error, options)}"
    with suppress(OSError):  # a full or closed standard error does not change the status
        show_error(line)
    raise SystemExit(status)


def _variables(error: BaseException) -> list[str]:
    """List the environment variables that configure PyTorch, such as TORCH_LOGS, if PyTorch raised the exception."""
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
    except (InputError, OSError, ValueError):  # no temporary folder, or a path with a zero byte
        return _log(error, {}) if folder else Path(os.devnull)
    return log


def _read_by_annotation(command: Command) -> None:
    """Make python-fire parse each argument by its parameter's annotation; see `reader_of`."""
    from fire.decorators import SetParseFn

    SetParseFn(str)(command)  # for *arguments and **options
    for parameter in inspect.signature(command).parameters.values():
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            SetParseFn(reader_of(parameter.annotation), parameter.name)(command)


def reader_of(annotation: Any) -> Callable[[str], Any]:
    """Return the function that converts command-line text to the annotated type of a parameter; a str stays as typed.

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


def _check(commands: Command | Mapping[str, Command], arguments: Sequence[str], confidential: bool) -> list[str]:
    """Refuse unknown and missing arguments, which python-fire notices only after the command has run.

    Return the names of the parameters whose arguments are words, not options.
    """
    if isinstance(commands, Mapping):
        if not arguments or arguments[0] not in commands:
            culprit = f"command {arguments[0]}" if arguments else "no command"
            raise InputError(culprit, expected=f"one of {', '.join(commands)}")
        command, arguments = commands[arguments[0]], arguments[1:]
    else:
        command = commands
    signature = inspect.signature(command).parameters.values()
    takes_any_number = any(parameter.kind is parameter.VAR_POSITIONAL for parameter in signature)
    takes_any_option = any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature)
    parameters = {item.name: item for item in signature if item.kind not in (item.VAR_POSITIONAL, item.VAR_KEYWORD)}
    positional, options = options_of(arguments)
    unset = [parameter for parameter in parameters.values() if parameter.name not in options]
    slots = [parameter for parameter in unset if parameter.kind is not parameter.KEYWORD_ONLY]
    required = [item for item in unset if item not in slots[: len(positional)] and item.default is item.empty]
    names = [item.name for item in required] if takes_any_option else parameters  # a misspelt option is missing
    otherwise = "" if takes_any_option else f"expected one of --{', --'.join(parameters)}"
    for option, value in options.items():
        if option not in parameters and (hint := did_you_mean(option, names, "--", otherwise)):
            number = next(i for i, text in enumerate(arguments, 1) if text[:1] == "-" and _name_of(text) == option)
            culprit = f"argument {number}" if confidential else f"--{option}={value}"  # a name may hold a path, too
            raise InputError(culprit, f"no such option{hint}")
    for option, value in options.items():
        is_flag = option in parameters and parameters[option].annotation in (bool, bool | None)
        if value == "" and not is_flag:
            raise InputError(f"--{option}", "no value")
    if unusable := [word for word in arguments if word in ("", "--")]:
        raise InputError(f"argument '{unusable[0]}'", expected="a value, or --OPTION=VALUE")
    if len(positional) > len(slots) and not takes_any_number:
        culprit = "" if confidential else f" {positional[-1]}"
        raise InputError(f"argument{culprit}", f"unexpected; options are --{', --'.join(parameters)}")
    if required:
        raise InputError(f"--{required[0].name}", "missing; it has no default")
    return [parameter.name for parameter in slots[: len(positional)]]


def options_of(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Split a command line into positional arguments and options, as python-fire reads them.

    Options are `--name value`, `--name=value` and `--flag` (value `""`), also with a single dash before a letter; `-`
    in a name counts as `_`. If an option is repeated with different values, the last wins, with a warning.
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
    """Join arguments, quoted for a shell; an argument with apostrophes gets double quotes if possible."""
    return " ".join(f'"{word}"' if "'" in word and not set(word) & set('"$`\\!') else quote(word) for word in arguments)
