"""Run `python -m MODULE` in a fork of a process that has imported what is slow to import."""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["torch._dynamo", "monai.bundle", "monai.handlers", "monai.networks.nets"])


def run_module(arguments: list[str], place: Path, environment: dict[str, str]) -> subprocess.CompletedProcess:
    """Run MODULE ARGUMENT ... to its end and capture its output as text; PyTorch keeps the tests' environment."""
    with tempfile.TemporaryDirectory() as folder:
        output, error = Path(folder, "output"), Path(folder, "error")
        process = FORKS.Process(target=_become, args=(arguments, str(place), environment, str(output), str(error)))
        process.start()
        process.join(600)
        if process.exitcode is None:
            process.kill()
            raise TimeoutError(" ".join(arguments))
        texts = (file.read_text(errors="replace") for file in (output, error))
        return subprocess.CompletedProcess(arguments, process.exitcode, *texts)


def _become(arguments: list[str], place: str, environment: dict[str, str], output: str, error: str) -> None:
    """Take over arguments, folder, environment and streams, and run the module as Python does."""
    for number, name in ((1, output), (2, error)):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT), number)
    sys.stdin = open(os.devnull)  # noqa: PTH123, SIM115
    os.chdir(place)
    os.environ.clear()
    os.environ.update(environment)
    for name in [name for name in sys.modules if name.partition(".")[0] in ("common", "scripts", "deploy", "tests")]:
        del sys.modules[name]
    sys.path[:] = [place, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep)), *LIBRARIES]
    sys.argv = ["", *arguments[1:]]
    multiprocessing.set_start_method(None, force=True)  # not as this process
    try:
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    except SystemExit:
        raise
    except BaseException:
        sys.excepthook(*sys.exc_info())
        raise SystemExit(1) from None
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()


LIBRARIES = [path for path in sys.path if "site-packages" in path or path.startswith((sys.prefix, sys.base_prefix))]
