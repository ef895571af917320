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
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import current_thread, main_thread
from types import TracebackType
from typing import Any

# Harmless warnings that every run triggers. MONAI's warning that configs are programs (SECURITY.md) comes too early to
# be silenced here; scripts.run replaces it by a warning only for configs from outside this repository.
SILENCED = (
    "NvImgCodecPydicomReader",  # pydicom without NVIDIA's decoder; the bundles read NIfTI
    "This DataLoader will create",  # more workers than CPU cores: they mostly wait for disks
)
NOT_USER_CODE = re.compile(
    rf"/(site|dist)-packages/|^{re.escape(str(Path(os.__file__).parent))}/"
    rf"|^{re.escape(str(Path(__file__).absolute().parents[1]))}/(common|scripts|deploy)/"
)
NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
REASONS = dict.fromkeys(NO_SPACE, "the disk is full or read-only")
REASONS[errno.ELOOP] = "expected a path that leads to a file"

Hook = Callable[[type[BaseException], BaseException, TracebackType | None], Any]


class InputError(ValueError):
    """Bad input: the culprit (`what`), its `value` if known, the `problem`, and the `expected` input.

    The message joins these fields in one line. It is escaped by `printable`, so that quoted text cannot forge a line,
    even in a worker's traceback, and shortened by `concise`. `what` may also be a complete message.

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
    """Bad input in an argument; commands report the argument as an option, `--name=value: ...`."""

    def __init__(self, name: str, value: Any = ..., problem: object = "", expected: str = "") -> None:
        super().__init__(name, problem, expected, value)

    def named(self, name: str) -> "ArgumentError":
        """Return this error for an argument with a different name."""
        return ArgumentError(name, self.value, self.problem, self.expected)


@contextmanager
def within(source: object) -> Iterator[None]:
    """Context manager: prefix the block's input errors with `source`, such as a file, unless they start with it."""
    try:
        yield
    except InputError as error:
        if error.what == str(source):
            raise
        raise InputError(source, error) from error


def check_number(name: str, value: Any, kind: type, lowest: float, highest: float = math.inf) -> None:
    """Check that an argument is an int, or with `kind=float` an int or float, from `lowest` to `highest`."""
    kinds = (int,) if kind is int else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not lowest <= value <= highest:
        noun = "a whole number" if kind is int else "a number"
        low, high = (f"{edge}" if isinstance(edge, int) else f"{edge:g}" for edge in (lowest, highest))
        limits = f"from {low}" + ("" if highest == math.inf else f" to {high}")
        raise ArgumentError(name, value, expected=f"{noun} {limits}")


def choice(name: str, value: Any, choices: Mapping[str, Any], empty: str = "no choices") -> Any:
    """Return the entry of `choices` for an argument's value; raise `ArgumentError` if there is none.

    `empty` is the reason why `choices` may be empty, for the message.
    """
    if not isinstance(value, str) or value not in choices:
        problem, expected = ("", f"one of {', '.join(choices)}") if choices else (f"{empty}; leave it out", "")
        raise ArgumentError(name, value, problem, expected)
    return choices[value]


def did_you_mean(
    name: str, candidates: Iterable[str], prefix: str = "", otherwise: str = "", cutoff: float = 0.6
) -> str:
    """Return the end of an error message about an unknown name: `; did you mean NAME?`.

    `prefix`, such as dashes, is put before the name. `otherwise` is the hint if no candidate is similar enough;
    `cutoff` is as in `difflib.get_close_matches`.

    Example:
        >>> did_you_mean("brats_finetun", ["brats_finetune", "atlas_finetune"])
        '; did you mean brats_finetune?'
    """
    near = difflib.get_close_matches(name, list(candidates), n=1, cutoff=cutoff)
    hint = f"did you mean {prefix}{near[0]}?" if near else otherwise
    return f"; {hint}" if hint else ""


def shortened(names: Sequence[str], most: int = 5) -> str:
    """Join the first `most` names with commas, and count the rest.

    Example:
        >>> shortened(["a", "b", "c", "d"], most=2)
        'a, b and 2 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def concise(text: str) -> str:
    """Cut the middle out of words above 120 characters (400 for paths), then out of a text above 1200 characters.

    Example:
        >>> concise(f"--seed={'9' * 5000}: expected a number") == f"--seed={'9' * 53}...{'9' * 39}: expected a number"
        True
    """

    def cut(match: re.Match[str]) -> str:
        word = match[0]
        return word if len(word) <= (400 if "/" in word else 120) else f"{word[:60]}...{word[-40:]}"

    text = re.sub(r"\S{121,}", cut, text)
    return text if len(text) <= 1200 else f"{text[:600]} ... {text[-400:]}"


def printable(text: object) -> str:
    r"""Return untrusted text, such as a file name, as one line that is safe to print.

    Control characters, line breaks, text-direction marks and bytes that are not UTF-8 are escaped as in Python.

    Example:
        >>> printable("P1\x1b[2J\nerror: none")
        'P1\\x1b[2J\\nerror: none'
    """
    line = str(text)
    return line if line.isprintable() else "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)


def aligned(rows: Sequence[Sequence[object]], right: Collection[int] = ()) -> list[str]:
    """Return rows of cells as lines with aligned columns; the columns with these indices are aligned to the right.

    Examples:
        >>> aligned([("region", "Dice"), ("hippocampus", 0.7)], right=[1])
        ['region       Dice', 'hippocampus   0.7']
    """
    widths = [max(len(str(cell)) for cell in column) for column in zip(*rows, strict=True)]
    form = "  ".join(f"{{!s:{'>' if i in right else '<'}{width}}}" for i, width in enumerate(widths))
    return [form.format(*row).rstrip() for row in rows]


def show(*lines: object, error: bool = False) -> None:
    """Print lines, escaped by `printable`, above any progress bar; the only function in this repository that prints."""
    stream = sys.stderr if error else sys.stdout
    if stream is None:  # None if closed, as by `>&-`
        return
    text = "".join(f"{printable(line)}\n" for line in lines)
    if encoding := getattr(stream, "encoding", None):  # a terminal or log may be ASCII only
        text = text.encode(encoding, "backslashreplace").decode(encoding)
    try:
        if bars := getattr(sys.modules.get("tqdm"), "tqdm", None):  # no bars unless tqdm is imported
            bars.write(text, file=stream, end="")
        else:
            stream.write(text)
        stream.flush()
    except OSError as failed:  # such as a full disk
        failed.filename = "standard error" if error else "standard output"
        raise


class _PersistentStream(io.FileIO):
    """A stream that drops output after its reader has exited."""

    def write(self, data: Any) -> int:
        """Write bytes, or drop them if the pipe or terminal is closed."""
        try:
            return super().write(data) or 0
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            return len(data)


def outlive_readers() -> None:
    """Ignore that the reader of the output has ended, as `tee` does on Ctrl-C, so that a run can save its state."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and stream is getattr(sys, f"__{name}__"):  # not replaced already
            raw = io.BufferedWriter(_PersistentStream(stream.fileno(), "w", closefd=False))
            by_line = stream.line_buffering or stream.write_through  # the latter by PYTHONUNBUFFERED
            persistent = io.TextIOWrapper(raw, stream.encoding, stream.errors, line_buffering=by_line)
            setattr(sys, name, persistent)


def show_error(message: str) -> None:
    """Print the error of a failed command on standard error, below its progress bars."""
    if bars := getattr(sys.modules.get("tqdm"), "tqdm", None):
        for bar in [*bars._instances]:
            bar.close()  # else it would be redrawn below the line
    show(f"error: {concise(message)}", error=True)


def report_in_one_line(otherwise: Hook | None = None) -> None:
    """Install an exception hook: one line for Ctrl-C; one line and exit status 2 for errors that `explained` covers.

    `otherwise` handles other exceptions, and bugs in user code. None keeps the hook of an earlier call; in the first
    call, None prints tracebacks.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # None if closed, as by `2>&-`: no other file may get its descriptor
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
    logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)  # logs the same warning
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # missing home folder or font
    logging.getLogger("dev_collate").setLevel(logging.CRITICAL + 1)  # MONAI's messages when memory runs out
    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)  # header corrections, without the file's name


def _report_thread(failed: threading.ExceptHookArgs) -> None:
    """Report a thread's exception, except TensorBoard's, which is raised again when the next event is added."""
    if not type(failed.thread).__module__.startswith("tensorboard."):
        threading.__excepthook__(failed)


def let_interrupts_raise() -> None:
    """Make Ctrl-C raise KeyboardInterrupt, unless it is ignored.

    This replaces the startup handler of `scripts`, which ends the process at once.
    """
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _let_interrupts_end() -> None:
    """In a forked child, let signals end the process quietly, not raise KeyboardInterrupt: the parent reports them."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        if signal.getsignal(number) is signal.default_int_handler:
            signal.signal(number, signal.SIG_DFL)


def _unraisable(lost: "sys.UnraisableHookArgs") -> None:
    """End the process if a callback swallowed SystemExit or KeyboardInterrupt."""
    if isinstance(lost.exc_value, SystemExit):
        os._exit(lost.exc_value.code if isinstance(lost.exc_value.code, int) else 1)
    if not issubclass(lost.exc_type, KeyboardInterrupt):
        if not re.match(r"DataLoader worker .* killed by signal", str(lost.exc_value)):  # Ctrl-C, reported already
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
        if current_thread() is main_thread():  # PyTorch's handler may raise here again when a DataLoader worker dies
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        message = explained(error)
        if message is None or ((line := place_in_user_code(error)) and line in message):  # a bug needs its traceback
            self.otherwise(kind, error, trace)
            return
        with suppress(OSError):  # a full or closed standard error does not change the status
            show_error(message)
        raise SystemExit(2)


def explained(error: BaseException) -> str | None:
    """Explain bad input, a lost process, too many open files or a path error in one line; None for other exceptions.

    A `TORCH_LOGS` that PyTorch refuses is bad input.
    """
    if "Invalid log settings" in str(error):
        value = os.environ.get("TORCH_LOGS")
        return f"TORCH_LOGS={value}: PyTorch has no log with this name; expected names such as +dynamo, or unset"
    if any(re.search("Too many open files|received 0 items of ancdata", str(link)) for link in chain_of(error)):
        return "too many open files: raise their limit, as with `ulimit -n 4096`, or lower --num_workers or --jobs"
    return input_error_message(error) or explain_lost_process(error) or _explain_path(error)


def input_error_message(error: BaseException) -> str | None:
    """Return the message of the `InputError` that caused an exception; None if there is none.

    An exception from a DataLoader worker carries its cause only as text, which is searched too.
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
    """Return the traceback text that an exception from a DataLoader worker carries; empty for other exceptions."""
    text = str(error.args[0]) if error.args else ""
    return text if text.startswith("Caught ") else ""


def chain_of(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception, then its causes or contexts, down to the original exception."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__


def explain_lost_process(error: BaseException) -> str | None:
    """Explain in one line that a process of a distributed run was lost; None for other exceptions."""
    for link in chain_of(error):
        if re.search(r"gloo/|NCCL|DistBackendError|DistNetworkError", f"{type(link).__name__}: {link}"):
            frozen = re.search(r"[Tt]imed? ?out", str(link)) is not None
            what = "did not answer in time" if frozen else "exited"
            rank = os.environ.get("RANK", "?")
            return f"process of rank {rank}: another process of this run {what}; see its log"
    return None


def ending_of(status: int) -> str:
    """Describe how a process ended, from its exit status (negative after a signal).

    Example:
        >>> ending_of(-9)
        'was ended by SIGKILL, probably for lack of memory'
    """
    if status >= 0:
        return f"ended with status {status}"
    name = signal.Signals(-status).name if -status in [*signal.Signals] else f"signal {-status}"
    return f"was ended by {name}" + (", probably for lack of memory" if -status == signal.SIGKILL else "")


def is_disk_full(error: BaseException) -> bool:
    """Return whether a full or read-only disk caused an exception."""
    return any(isinstance(link, OSError) and link.errno in NO_SPACE for link in chain_of(error))


def _explain_path(error: BaseException) -> str | None:
    """Explain a full or read-only disk, or a circular link, in one line; None for other exceptions."""
    for link in chain_of(error):
        if isinstance(link, OSError) and link.errno in REASONS:
            return f"{link.filename or 'a file'}: {link.strerror}; {REASONS[link.errno]}"
    return None


def path_error(error: BaseException) -> str | None:
    """Return the path and reason of an `OSError` as text; None for other exceptions, or without a path."""
    if not isinstance(error, OSError) or not isinstance(error.filename, str | bytes):
        return None
    return f"{os.fsdecode(error.filename)}: {error.strerror}"


def place_in_user_code(error: BaseException) -> str:
    """Return the innermost line of user code in an exception's traceback, as file:line; empty if there is none.

    User code, such as an overlay's transforms, is neither in this repository's packages nor in a library.
    """
    frames = re.findall(r'^\s+File "(/.+?)", line (\d+)', traceback_of(error), re.MULTILINE)
    places = [f"{file}:{line}" for file, line in frames if not NOT_USER_CODE.search(file)]
    return places[-1] if places else ""


def traceback_of(error: BaseException) -> str:
    """Return an exception's traceback and, if a DataLoader worker raised the exception, the worker's traceback."""
    return "".join([*traceback.format_exception(error), *map(_text_of_worker, chain_of(error))])


def one_line(error: BaseException) -> str:
    """Describe an exception in one line: the `InputError` that caused it, a path and a reason, or a type and a text."""
    message = input_error_message(error) or path_error(error)
    if message is None:
        lines = str(error).strip().splitlines() or [""]
        is_from_worker = lines[0].startswith("Caught ")  # the traceback follows; the last line has type and message
        message = lines[-1] if is_from_worker else f"{type(error).__name__}: {lines[0]}"
    return concise(message)
