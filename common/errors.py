"""Bad input: exceptions, checks, one-line reports, and printing."""

import difflib
import errno
import io
import logging
import math
import os
import re
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import current_thread, main_thread
from types import TracebackType
from typing import Any

# Harmless warnings that every run triggers. MONAI's command warns that configs are programs (SECURITY.md) before this
# takes effect; scripts.run silences that, and warns only of configs from outside this repository.
SILENCED = (
    "NvImgCodecPydicomReader",  # pydicom without NVIDIA's decoder; the bundles read NIfTI
    "This DataLoader will create",  # readers mostly wait for disks; the option has an upper limit
)
NOT_OF_USERS = re.compile(
    rf"/(site|dist)-packages/|^{re.escape(str(Path(os.__file__).parent))}/"
    rf"|^{re.escape(str(Path(__file__).absolute().parents[1]))}/(common|scripts|deploy)/"
)
NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
REASONS = dict.fromkeys(NO_SPACE, "the disk is full or read-only")
REASONS[errno.ELOOP] = "expected a path that leads to a file"

Hook = Callable[[type[BaseException], BaseException, TracebackType | None], Any]


class InputError(ValueError):
    """Bad input: the culprit `what`, perhaps its `value`, the `problem`, and what was `expected`.

    Its text is one line of these fields, which nobody needs to take apart again, escaped by `printable`, so that quoted
    text cannot forge a line, even in a worker's traceback, and shortened by `concise`. A whole sentence may be `what`.

    Example:
        >>> print(InputError("RANK", expected="a number", value="one"), InputError("a.nii", "3 axes", "2"), sep=" | ")
        RANK=one: expected a number | a.nii: 3 axes; expected 2
    """

    def __init__(self, what: object, problem: object = "", expected: str = "", value: Any = ...) -> None:
        self.what, self.problem, self.expected, self.value = str(what), str(problem), expected, value

    def __str__(self) -> str:
        culprit = self.what if self.value is ... else f"{self.what}={self.value}"
        reasons = "; ".join(filter(None, [self.problem, self.expected and f"expected {self.expected}"]))
        return printable(concise(f"{culprit}: {reasons}" if reasons else culprit))


class ArgumentError(InputError):
    """An argument has an invalid value; a command that has it as an option reports `--name=value: `."""

    def __init__(self, name: str, value: Any = ..., problem: object = "", expected: str = "") -> None:
        super().__init__(name, problem, expected, value)

    def named(self, name: str) -> "ArgumentError":
        """The same error of an argument with another name."""
        return ArgumentError(name, self.value, self.problem, self.expected)


@contextmanager
def within(place: object) -> Iterator[None]:
    """Context manager: bad input in the block is a problem of `place`, such as the file that holds it."""
    try:
        yield
    except InputError as error:
        if error.what == str(place):
            raise
        raise InputError(place, error) from error


def check_number(name: str, value: Any, kind: type, lowest: float, highest: float = math.inf) -> None:
    """Check that an argument is a number of a type, int or float, from `lowest` to `highest`."""
    kinds = (int,) if kind is int else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not lowest <= value <= highest:
        whole = "a whole number" if kind is int else "a number"
        low, high = (f"{edge}" if isinstance(edge, int) else f"{edge:g}" for edge in (lowest, highest))
        limits = f"from {low}" + ("" if highest == math.inf else f" to {high}")
        raise ArgumentError(name, value, expected=f"{whole} {limits}")


def choice(name: str, value: Any, choices: Mapping[str, Any]) -> Any:
    """Look up an argument's word in `choices`; raise `ArgumentError` if it is unknown."""
    if not isinstance(value, str) or value not in choices:
        raise ArgumentError(name, value, expected=f"one of {', '.join(choices)}" if choices else "none")
    return choices[value]


def did_you_mean(name: str, known: Iterable[str], prefix: str = "", otherwise: str = "", cutoff: float = 0.6) -> str:
    """The end of a message on an unknown name: the nearest known one, else what was expected, else nothing.

    Args:
        name: Unknown name.
        known: Known names.
        prefix: Text before the known name, such as dashes.
        otherwise: Expectation, if no known name is near.
        cutoff: Least similarity, from 0 to 1 (`difflib.get_close_matches`).

    Example:
        >>> did_you_mean("brats_finetun", ["brats_finetune", "atlas_finetune"])
        '; did you mean brats_finetune?'
    """
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    hint = f"did you mean {prefix}{near[0]}?" if near else otherwise
    return f"; {hint}" if hint else ""


def shortened(names: Sequence[str], most: int = 5) -> str:
    """Join names on one line; a long list is cut after `most` names.

    Example:
        >>> shortened(["a", "b", "c", "d"], most=2)
        'a, b and 2 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def concise(text: str) -> str:
    """Cut the middle out of words of more than 120 characters, paths of more than 400, and lines of more than 1200.

    Example:
        >>> concise(f"--seed={'9' * 5000}: expected a number") == f"--seed={'9' * 53}...{'9' * 39}: expected a number"
        True
    """

    def cut(found: re.Match[str]) -> str:
        word = found[0]
        return word if len(word) <= (400 if "/" in word else 120) else f"{word[:60]}...{word[-40:]}"

    text = re.sub(r"\S{121,}", cut, text)
    return text if len(text) <= 1200 else f"{text[:600]} ... {text[-400:]}"


def printable(text: object) -> str:
    r"""Escape text from outside, such as the name of a tensor, subject or file, to one line that is safe to print.

    Control characters, line breaks, marks that reverse text, and bytes that are not UTF-8 are escaped as in Python.

    Example:
        >>> printable("P1\x1b[2J\nerror: none")
        'P1\\x1b[2J\\nerror: none'
    """
    line = str(text)
    return line if line.isprintable() else "".join(each if each.isprintable() else ascii(each)[1:-1] for each in line)


def show(*lines: object, error: bool = False) -> None:
    """Print lines, each escaped by `printable`, above any progress bar; nothing else in this repository prints."""
    stream = sys.stderr if error else sys.stdout
    if stream is None:  # closed, as by `>&-`
        return
    text = "".join(f"{printable(line)}\n" for line in lines)
    if encoding := getattr(stream, "encoding", None):  # of a terminal or a log, maybe ASCII
        text = text.encode(encoding, "backslashreplace").decode(encoding)
    try:
        if bars := getattr(sys.modules.get("tqdm"), "tqdm", None):  # only a process that has imported it can have bars
            bars.write(text, file=stream, end="")
        else:
            stream.write(text)
        stream.flush()
    except OSError as failed:  # such as a full disk
        failed.filename = "standard error" if error else "standard output"
        raise


class _Lasting(io.FileIO):
    """A stream that ignores writes after its reader has gone."""

    def write(self, data: Any) -> int:
        """Write bytes, as far as the pipe or terminal is still there."""
        try:
            return super().write(data) or 0
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            return len(data)


def outlive_readers() -> None:
    """Go on after the reader of the output has gone: Ctrl-C also ends `tee`, and a training must still save."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and stream is getattr(sys, f"__{name}__"):  # not replaced already
            raw = io.BufferedWriter(_Lasting(stream.fileno(), "w", closefd=False))
            lasting = io.TextIOWrapper(raw, stream.encoding, stream.errors, line_buffering=stream.line_buffering)
            setattr(sys, name, lasting)


def show_error(message: str) -> None:
    """Print the last line of a command that fails, on standard error and below its progress bars."""
    if bars := getattr(sys.modules.get("tqdm"), "tqdm", None):
        for bar in [*bars._instances]:
            bar.close()  # else it would be drawn once more, below the line
    show(f"error: {concise(message)}", error=True)


def report_in_one_line(otherwise: Hook | None = None) -> None:
    """From now on, report an uncaught `InputError` in one line and exit with status 2; Ctrl-C also prints one line.

    `otherwise` handles other exceptions, and bugs in user code; by default the hook of an earlier call stays, initially
    a traceback.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed, as by `2>&-`: another file must not get its number
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115
    if otherwise is None and isinstance(sys.excepthook, _Report):
        return
    if not isinstance(sys.excepthook, _Report):
        os.register_at_fork(after_in_child=_let_interrupts_end)
        sys.unraisablehook = _unraisable
    threading.excepthook = _report_thread
    logging.raiseExceptions = False  # no traceback for PyTorch's log line about a dead DataLoader worker
    sys.excepthook = _Report(otherwise or sys.__excepthook__)
    for harmless in SILENCED:
        warnings.filterwarnings("ignore", message=harmless)
    logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)  # also logs the first of them
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # the lack of a home folder or a font
    logging.getLogger("dev_collate").setLevel(logging.CRITICAL + 1)  # MONAI's lines on a batch that has no memory
    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)  # what it corrects in headers, without a file's name


def _report_thread(failed: threading.ExceptHookArgs) -> None:
    """Report an exception of a thread, but not TensorBoard's, which its next event raises again."""
    if not type(failed.thread).__module__.startswith("tensorboard."):
        threading.__excepthook__(failed)


def let_interrupts_raise() -> None:
    """Let Ctrl-C raise KeyboardInterrupt again, where `scripts` has made it end a command; not if it is ignored."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _let_interrupts_end() -> None:
    """Let Ctrl-C and other signals end a child quietly where they would raise, as its parent reports them."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        if signal.getsignal(number) is signal.default_int_handler:
            signal.signal(number, signal.SIG_DFL)


def _unraisable(lost: "sys.UnraisableHookArgs") -> None:
    """End the process if an exception that ends it has been lost in a callback."""
    if isinstance(lost.exc_value, SystemExit):
        os._exit(lost.exc_value.code if isinstance(lost.exc_value.code, int) else 1)
    if not issubclass(lost.exc_type, KeyboardInterrupt):
        if not re.match(r"DataLoader worker .* killed by signal", str(lost.exc_value)):  # by Ctrl-C, reported already
            sys.__unraisablehook__(lost)
        return
    show("interrupted", error=True)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)


@dataclass(frozen=True)
class _Report:
    """The hook for uncaught exceptions."""

    otherwise: Hook

    def __call__(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            show("interrupted", error=True)
            return
        if current_thread() is main_thread():  # PyTorch's handler can raise here, too, when a DataLoader worker dies
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        message = explained(error)
        if message is None or ((place := place_in_user_code(error)) and place in message):  # a bug needs its traceback
            self.otherwise(kind, error, trace)
            return
        with suppress(OSError):  # a full or closed standard error does not change the status
            show_error(message)
        raise SystemExit(2)


def explained(error: BaseException) -> str | None:
    """One line if bad input, a lost process, a full disk or too many files caused an exception; None for any other."""
    if any(re.search("Too many open files|received 0 items of ancdata", str(link)) for link in chain_of(error)):
        return "too many open files: raise their limit, as with `ulimit -n 4096`, or lower --num_workers or --jobs"
    return input_error_message(error) or explain_lost_process(error) or _explain_path(error)


def input_error_message(error: BaseException) -> str | None:
    """The message of the `InputError` that caused an exception; None if there is none.

    An exception from a DataLoader's worker carries its cause only as text, which is searched too.
    """
    for link in chain_of(error):
        if from_worker := re.findall(
            rf"^{__name__}\.(Input|Argument)Error: (.+)$", _text_of_worker(link), re.MULTILINE
        ):
            kind, message = from_worker[-1]
            return f"--{message}" if kind == "Argument" else message
        if isinstance(link, InputError):
            return f"--{link}" if isinstance(link, ArgumentError) else str(link)
    return None


def _text_of_worker(error: BaseException) -> str:
    """What an exception of a DataLoader's worker carries in place of its cause; empty for others."""
    text = str(error.args[0]) if error.args else ""
    return text if text.startswith("Caught ") else ""


def chain_of(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and its causes, down to the first."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__


def explain_lost_process(error: BaseException) -> str | None:
    """One line if a process of the group was lost; None for other exceptions."""
    for link in chain_of(error):
        if re.search(r"gloo/|NCCL|DistBackendError|DistNetworkError", f"{type(link).__name__}: {link}"):
            frozen = re.search(r"[Tt]imed? ?out", str(link)) is not None
            what = "did not answer in time" if frozen else "exited"
            rank = os.environ.get("RANK", "?")
            return f"process of rank {rank}: another process of this run {what}; see its log"
    return None


def ending_of(status: int) -> str:
    """How a process ended, by its exit status, which is negative after a signal.

    Example:
        >>> ending_of(-9)
        'was ended by SIGKILL, probably for lack of memory'
    """
    if status >= 0:
        return f"ended with status {status}"
    name = signal.Signals(-status).name if -status in [*signal.Signals] else f"signal {-status}"
    return f"was ended by {name}" + (", probably for lack of memory" if -status == signal.SIGKILL else "")


def is_disk_full(error: BaseException) -> bool:
    """Whether a full or read-only disk caused an exception."""
    return any(isinstance(link, OSError) and link.errno in NO_SPACE for link in chain_of(error))


def _explain_path(error: BaseException) -> str | None:
    """One line if a full or read-only disk, or a link that leads to itself, caused an exception; None for others."""
    for link in chain_of(error):
        if isinstance(link, OSError) and link.errno in REASONS:
            return f"{link.filename or 'a file'}: {link.strerror}; {REASONS[link.errno]}"
    return None


def path_error(error: BaseException) -> str | None:
    """The path that an `OSError` names, and its reason; None for other exceptions."""
    if not isinstance(error, OSError) or not isinstance(error.filename, str | bytes):
        return None
    return f"{os.fsdecode(error.filename)}: {error.strerror}"


def place_in_user_code(error: BaseException) -> str:
    """The innermost line of user code that an exception passed, as file:line; empty if there is none.

    That is code outside this repository, installed packages and the standard library, such as an overlay's transforms.
    """
    frames = re.findall(r'^\s+File "(/.+?)", line (\d+)', traceback_of(error), re.MULTILINE)
    places = [f"{file}:{line}" for file, line in frames if not NOT_OF_USERS.search(file)]
    return places[-1] if places else ""


def traceback_of(error: BaseException) -> str:
    """The traceback of an exception, and that of a worker below it, which `InputError` would escape."""
    return "".join([*traceback.format_exception(error), *map(_text_of_worker, chain_of(error))])


def one_line(error: BaseException) -> str:
    """An exception in one line: the message of its `InputError`, its path and reason, or its type and first line."""
    message = input_error_message(error) or path_error(error)
    if message is None:
        lines = str(error).strip().splitlines() or [""]
        is_from_worker = lines[0].startswith("Caught ")  # its traceback follows, then type and message
        message = lines[-1] if is_from_worker else f"{type(error).__name__}: {lines[0]}"
    return concise(message)
