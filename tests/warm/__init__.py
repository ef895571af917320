"""Run `python -m MODULE` in a fork of a process that has imported PyTorch and MONAI, in a twentieth of a second."""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
STARTING = threading.Lock()
MEMORY = "WARM_MEMORY"  # environment variable: memory limit beyond that of an idle server, in bytes
DISK = "WARM_DISK"  # environment variable: largest file size, in bytes


def python() -> str:
    """The command that starts modules in children of a server; this process starts the server and ends it."""
    with STARTING:  # two threads would start two
        return _started()


@cache
def _started() -> str:
    folder = Path(tempfile.mkdtemp(prefix="warm"))
    place, stand_in = folder / "socket", folder / "python"
    client = [sys.executable, "-I", "-S", str(HERE / "client.py"), str(place), sys.executable]
    stand_in.write_text(f'#!/bin/sh\nexec {" ".join(client)} "$@"\n')
    launcher = folder / "torchrun"
    launcher.write_text(f'#!/bin/sh\nexec {stand_in} -m torch.distributed.run "$@"\n')
    for file in (stand_in, launcher):
        file.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, str(HERE / "server.py"), str(place), str(stand_in)]
    server = subprocess.Popen(command, env=environment | {"OMP_NUM_THREADS": "1"}, stdin=subprocess.PIPE)
    atexit.register(_end, server, folder)
    while not place.exists():
        assert server.poll() is None, f"{command} ended with status {server.returncode}"
        time.sleep(0.01)
    return str(stand_in)


def _end(server: subprocess.Popen, folder: Path) -> None:
    server.kill()
    server.wait()
    shutil.rmtree(folder)
