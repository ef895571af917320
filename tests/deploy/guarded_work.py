"""Functions that the tests of deploy/subprocess_guard.py run in a child process, which imports them from here."""

import os
import subprocess
from pathlib import Path


def wait(folder: str) -> None:
    """Start another process, write the ids of both to the file `pids`, and wait for the other one."""
    process = subprocess.Popen(["sleep", "60"])
    part = Path(folder, "part")
    part.write_text(f"{os.getpid()} {process.pid}")
    part.rename(Path(folder, "pids"))
    process.wait()


def fail() -> None:
    raise ValueError("SENTINEL")
