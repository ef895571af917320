"""Run commands of this project one after another: `run_step` skips a command that has made its target before."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from common.errors import show
from common.files import digest, move_aside, write_json


def ending_of(status: int) -> str:
    """Describe how a process ended, from its exit status (negative after a signal)."""
    return f"ended with status {status}" if status != -signal.SIGKILL else "was killed, probably for lack of memory"


def words_of(options: Mapping[str, object]) -> list[str]:
    """Return options as words of a command line; those that are None are left out."""
    return [f"--{name}={value}" for name, value in options.items() if value is not None]


def run_step(
    command: Sequence[object],
    target: Path | None = None,
    inputs: Sequence[Path] = (),
    results: Path | None = None,
    log: Path | None = None,
    environment: Mapping[str, str] = os.environ,
) -> None:
    """Print and run `python -m COMMAND`; skip it if `target` is there, made by this command from these input files.

    The command and the SHA-256 of its inputs are kept beside `target`; if they have changed, `results` are moved aside.
    Output goes to the terminal, or to `log`. Raise SystemExit with the command's status if it fails.
    """
    words, suffix = [str(word) for word in command], f" >> {log}" if log else ""
    line = shlex.join(["python", "-m", *words]) + suffix
    done = {"command": words, "inputs": [digest(path) for path in inputs]}
    stamp = target.with_name(f".{target.name}.step.json") if target else None
    if target and stamp and target.exists() and stamp.is_file():
        if json.loads(stamp.read_text(encoding="utf-8")) == done:
            show(f"done before  {target}")
            return
        if results:
            show(f"moved aside  {results}: its command or input has changed")
            move_aside(results)
    show(f"$ {line}")
    if log:
        log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") if log else os.fdopen(os.dup(1), "wb") as output:
        error = output if log else None
        status = subprocess.run([sys.executable, "-m", *words], env=environment, stdout=output, stderr=error).returncode
    if status:
        show(f"status {status} of {line}", error=True)
        raise SystemExit(status if status > 0 else 1)
    if stamp:
        write_json(stamp, done)
