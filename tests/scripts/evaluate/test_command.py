"""`python -m scripts.evaluate` in a process of its own: signals, and all commands in turn."""

import csv
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.scripts.evaluate.evaluations import AFFINE, save
from tests.support import ROOT, execute


def command(*arguments):
    return execute([sys.executable, "-m", "scripts.evaluate", *map(str, arguments)])


@pytest.mark.parametrize(("ending", "status"), [("INT", -signal.SIGINT), ("TERM", -signal.SIGTERM)])
def test_a_command_that_is_ended_leaves_no_process_no_file_and_no_traceback(ending, status, cohort, tmp_path):
    folder, _ = cohort
    code = f"""
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from scripts.evaluate import __main__ as evaluate
from common.cli import run
def score(files, protocol, convention):
    open("{tmp_path}/" + str(os.getpid()), "w").close()
    time.sleep(600 if "{ending}" == "TERM" else 0.3)
evaluate.score = score
sys.argv = ["", "--predictions={folder}/p", "--references={folder}/r", "--protocol=atlas", "--output={folder}/out"]
sys.argv.append("--workers=1")
run({{"compare": evaluate.compare}}, "evaluate", default=evaluate.evaluate)
"""
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        workers = wait_for(lambda: [int(file.name) for file in tmp_path.iterdir() if file.name.isdecimal()])
        process.send_signal(getattr(signal, f"SIG{ending}"))
        told = process.stderr.read()
    assert process.returncode == status
    assert "Traceback" not in told
    assert told.splitlines()[-1].endswith("interrupted") == (ending == "INT")
    assert wait_for(lambda: not any(is_running(worker) for worker in workers))
    assert not (folder / "out").exists()


def is_running(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def wait_for(find):
    end = time.monotonic() + 600
    while not (found := find()) and time.monotonic() < end:
        time.sleep(0.02)
    return found


@pytest.mark.slow
def test_evaluations_are_made_and_compared_with_their_pages(cohort):
    folder, arrays = cohort
    for case, (_, reference) in arrays.items():
        save(folder / f"q/{case}.nii.gz", reference, AFFINE)
    words = [f"--references={folder}/r", "--protocol=isles", "--workers=2"]
    for name, output in (("p", "ours"), ("q", "perfect")):
        ended = command(f"--predictions={folder}/{name}", f"--output={folder}/{output}", *words)
        assert ended.returncode == 0, ended.stderr
    drawn = (folder / "ours/evaluation.html").read_text()
    assert "<html" in drawn
    again = command("page", folder / "ours")
    assert (again.returncode, again.stdout, again.stderr) == (0, f"{folder}/ours/evaluation.html\n", "")
    assert (folder / "ours/evaluation.html").read_text() == drawn
    ended = command("compare", folder / "ours", folder / "perfect", f"--output={folder}/out")
    assert (ended.returncode, ended.stderr) == (0, "")
    (dice,) = [line for line in ended.stdout.splitlines() if line.startswith("lesion  dice ")]
    assert dice.endswith("0 / 0 / 5")
    with (folder / "out/ranking.csv").open(newline="") as file:
        assert next(csv.DictReader(file))["system"] == "perfect"
