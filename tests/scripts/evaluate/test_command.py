"""`python -m scripts.evaluate` in a process that gets signals."""

import signal
import subprocess
import sys

import pytest

from tests.processes import is_running, wait_until
from tests.support import ROOT


@pytest.mark.parametrize(("ending", "status"), [("INT", -signal.SIGINT), ("TERM", -signal.SIGTERM)])
def test_a_command_that_is_ended_leaves_no_process_no_result_and_no_traceback(ending, status, cohort, tmp_path):
    folder, _ = cohort
    code = f"""
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from scripts.evaluate import __main__ as evaluate
from common.cli import run
from common.inference.masks import masks_of as read_masks
def masks_of(files, convention):
    open("{tmp_path}/" + str(os.getpid()), "w").close()
    time.sleep(600 if "{ending}" == "TERM" else 0.3)
    return read_masks(files, convention)
evaluate.masks_of = masks_of
sys.argv = ["", "--predictions={folder}/p", "--references={folder}/r", "--protocol=atlas", "--output={folder}/out"]
sys.argv.append("--workers=1")
run({{"compare": evaluate.compare}}, "evaluate", default=evaluate.evaluate)
"""
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        workers = wait_until(
            lambda: [int(file.name) for file in tmp_path.iterdir() if file.name.isdecimal()], seconds=600
        )
        process.send_signal(getattr(signal, f"SIG{ending}"))
        printed = process.stderr.read()
    assert process.returncode == status
    assert "Traceback" not in printed
    assert printed.splitlines()[-1].endswith("interrupted") == (ending == "INT")
    wait_until(lambda: not any(is_running(worker) for worker in workers))
    assert {file.name for file in folder.glob("out/*")} <= {".in_use"}
