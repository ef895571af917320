"""Bad input: exceptions, checks, one-line reports, and printing."""

import difflib
import errno
import logging
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


class InputError(ValueError):
    """Bad input: the culprit (`what`), its `value` if known, the `problem`, and the `expected` input, in one line.

    From a DataLoader's worker, `what` is a traceback, whose last line has the message.

    Example:
        >>> print(InputError("RANK", expected="a number", value="one"), InputError("a.nii", "3 axes", "2"), sep=" | ")
        RANK=one: expected a number | a.nii: 3 axes; expected 2
    """

    def __init__(self, what: object, problem: object = "", expected: str = "", value: Any = ...) -> None:
        self.what, self.problem, self.expected, self.value = str(what), str(problem), expected, value
        if self.what.startswith("Caught "):
            self.what = self.what.rstrip().rpartition("\n")[2].partition(": ")[2]

    def __str__(self) -> str:
        culprit = self.what if self.value is ... else f"{self.what}={self.value}"
        reasons = "; ".join(filter(None, [self.problem, self.expected and f"expected {self.expected}"]))
        return printable(f"{culprit}: {reasons}" if reasons else culprit)


class ArgumentError(InputError):
    """Bad input in an argument; commands report the argument as an option, `--name=value: ...`."""

    def __init__(self, name: str, value: Any = ..., problem: object = "", expected: str = "") -> None:
        super().__init__(name, problem, expected, value)


@contextmanager
def within(source: object) -> Iterator[None]:
    """Context manager: prefix the block's input errors with `source`, such as a file, unless they start with it."""
    try:
        yield
    except InputError as error:
        if error.what == str(source):
            raise
        raise InputError(source, error) from error


def choice(name: str, value: Any, choices: Collection[str]) -> Any:
    """Return an argument that is one of `choices`, or its value in a mapping; raise `ArgumentError` for others."""
    if not isinstance(value, str) or value not in choices:
        raise ArgumentError(name, value, expected=f"one of {', '.join(choices)}")
    return choices[value] if isinstance(choices, Mapping) else value


def did_you_mean(name: str, candidates: Iterable[str], prefix: str = "") -> str:
    """Return the end of an error message about an unknown name: `; did you mean NAME?`, or nothing."""
    near = difflib.get_close_matches(name, list(candidates), n=1)
    return f"; did you mean {prefix}{near[0]}?" if near else ""


def shortened(names: Sequence[str], most: int = 5) -> str:
    """Join the first `most` names with commas, and count the rest: "a, b and 2 more"."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def printable(text: object) -> str:
    """Return untrusted text, such as a file name, in one line; what is not printable is escaped as in Python."""
    line = str(text)
    return line if line.isprintable() else "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)


def aligned(rows: Sequence[Sequence[object]], right: Collection[int] = ()) -> list[str]:
    """Return rows of cells as lines with aligned columns; the columns with these indices are aligned to the right."""
    widths = [max(len(str(cell)) for cell in column) for column in zip(*rows, strict=True)]
    form = "  ".join(f"{{!s:{'>' if i in right else '<'}{width}}}" for i, width in enumerate(widths))
    return [form.format(*row).rstrip() for row in rows]


def show(*lines: object, error: bool = False) -> None:
    """Print lines, escaped by `printable`, above any progress bar; the only function in this repository that prints."""
    stream = sys.stderr if error else sys.stdout
    text = "".join(f"{printable(line)}\n" for line in lines)
    if bars := getattr(sys.modules.get("tqdm"), "tqdm", None):  # no bars unless tqdm is imported
        bars.write(text, file=stream, end="")
    else:
        stream.write(text)
    stream.flush()


def report_in_one_line() -> None:
    """Install an exception hook: one line and exit status 2 for errors that `explained` covers; others as before."""
    if not isinstance(sys.excepthook, partial):
        sys.excepthook = partial(_report, sys.excepthook)
        logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)  # header corrections, without the file's name


def _report(otherwise: Callable[..., object], kind: type[BaseException], error: BaseException, trace: Any) -> None:
    if issubclass(kind, KeyboardInterrupt):
        show("interrupted", error=True)
    elif message := explained(error):
        show(f"error: {message}", error=True)
        raise SystemExit(2)
    else:
        otherwise(kind, error, trace)


def explained(error: BaseException) -> str | None:
    """Explain bad input, a missing file or a full disk in one line; None for other exceptions."""
    for link in chain_of(error):
        if isinstance(link, InputError):
            return f"--{link}" if isinstance(link, ArgumentError) else str(link)
        if isinstance(link, FileNotFoundError) or (isinstance(link, OSError) and link.errno in NO_SPACE):
            return f"{link.filename or 'a file'}: {link.strerror}"
    return None


def one_line(error: BaseException) -> str:
    """Describe any exception in one line: `explained`, or its type and first line."""
    lines = str(error).strip().splitlines() or [""]
    return explained(error) or f"{type(error).__name__}: {lines[0]}"


def chain_of(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception, then its causes or contexts, down to the original exception."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__


def is_disk_full(error: BaseException) -> bool:
    """Return whether a full or read-only disk caused an exception."""
    return any(isinstance(link, OSError) and link.errno in NO_SPACE for link in chain_of(error))
