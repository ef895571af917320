"""Command lines around the bundles: `python -m scripts.<name> --help`."""

import os
import resource
import signal
import sys

COMMAND = os.getpid()
LEAST = 2**28  # bytes of address space; with less, importing NumPy hangs
IS_TRAINING = sys.orig_argv[-len(sys.argv) :][0].endswith("scripts.run") and sys.argv[2:3] == ["train"]


def _end(number: int, _: object) -> None:
    """Print a line and end this process by the signal; on SIGTERM and SIGHUP, training ends with status 75.

    Nothing is raised, because a callback during an import could swallow the exception.
    """
    if os.getpid() == COMMAND and os.environ.get("RANK", "0") == "0":
        name = "interrupted" if number == signal.SIGINT else f"{signal.Signals(number).name}: ended"
        os.write(2, f"{name}\n".encode())
    if IS_TRAINING and number != signal.SIGINT:
        os._exit(75)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


if sys.argv[:1] == ["-m"]:  # a command is starting; `common.errors.let_interrupts_raise` takes over later
    for signal_number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(signal_number) is not signal.SIG_IGN:
            signal.signal(signal_number, _end)
    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    if 0 <= most < LEAST:
        os.write(2, f"error: ulimit -v {most // 1024}: too little memory; expected {LEAST // 1024} or more\n".encode())
        os._exit(2)
