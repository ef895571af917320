"""Every bad input of the tables ends its command in one line, with its status, and leaves the results as they were.

A process that has imported PyTorch and MONAI forks for each command; one row of each command also runs as a process of
its own, to show that the two end alike.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.checkpoints import FAULTS as OF_CHECKPOINTS
from tests.faults.commands import FAULTS as OF_COMMANDS
from tests.faults.datalists import FAULTS as OF_DATALISTS
from tests.faults.disks import FAULTS as OF_DISKS
from tests.faults.in_use import FAULTS as OF_FOLDERS_IN_USE
from tests.faults.options import FAULTS as OF_OPTIONS
from tests.faults.states import FAULTS as OF_STATES
from tests.faults.table import Fault, plain
from tests.faults.volumes import FAULTS as OF_VOLUMES
from tests.support import ROOT, Result, execute

LOGS = "tensorboard/"  # of a run that reads a bad volume in its first step

pytestmark = pytest.mark.slow
FAULTS: list[Fault] = [
    *(*OF_OPTIONS, *OF_CHECKPOINTS, *OF_STATES, *OF_DATALISTS, *OF_VOLUMES, *OF_COMMANDS),
    *(*OF_FOLDERS_IN_USE, *OF_DISKS),
]
FIRST = {fault.module: fault for fault in reversed(FAULTS) if fault.memory is None and fault.disk is None}


class Server:
    """The process that forks; see `tests.faults.server`."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.faults.server"]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, **pipes)
        assert self.process.stdout.readline() == "ready\n"

    def run(self, fault: Fault, words: list[str], folder: Path) -> Result:
        streams = {name: str(folder / name) for name in ("stdout", "stderr")}
        request = {"module": fault.module, "arguments": words, "place": str(ROOT / fault.place), "seconds": 300}
        self.process.stdin.write(json.dumps(request | streams | {"memory": fault.memory, "disk": fault.disk}) + "\n")
        self.process.stdin.flush()
        status = int(self.process.stdout.readline())
        texts = {name: Path(path).read_text() for name, path in streams.items()}
        return Result(words, status, **texts)


@pytest.fixture(scope="module")
def server():
    started = Server()
    yield started
    started.process.stdin.close()
    assert started.process.wait(timeout=60) == 0


@pytest.fixture
def places(tmp_path, cohorts):
    """Folder, output and cohorts of a fault; the output holds a result of an earlier run."""
    places = {"folder": tmp_path / "folder", "output": tmp_path / "output", "cohorts": cohorts}
    for name in ("folder", "output"):
        places[name].mkdir()
    (places["output"] / "summary.json").write_text("{}")
    return places


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def check(fault: Fault, places: dict[str, Path], run: Callable[[list[str]], Result]) -> None:
    fault.prepare(places["folder"], places["cohorts"])
    before = files(places["output"])
    ended = run(fault.words(places))
    assert ended.returncode == fault.status, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr
    lines = ended.stderr.replace("\r", "\n").splitlines()
    assert fault.matches(lines[-1], places), ended.stderr
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
    after = {name: content for name, content in files(places["output"]).items() if not name.startswith(LOGS)}
    assert before.items() <= after.items() if fault.memory or fault.disk else before == after


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_bad_input_ends_in_one_line(server, places, tmp_path, fault):
    check(fault, places, lambda words: server.run(fault, words, tmp_path))


@pytest.mark.parametrize("fault", FIRST.values(), ids=lambda fault: fault.name)
def test_a_process_of_its_own_ends_alike(places, fault):
    check(fault, places, lambda words: execute([sys.executable, "-m", fault.module, *words], ROOT / fault.place))


def test_the_documents_count_the_table():
    assert f"a table of {len(FAULTS)} bad inputs" in (ROOT / "docs/reliability.md").read_text()


def test_names_are_unique():
    names = [fault.name for fault in FAULTS]
    assert sorted(set(names)) == sorted(names)


def test_the_last_state_survives_a_host_without_memory(server, places, tmp_path):
    """A training that lacks the memory for its second step leaves the state that its first one saved."""
    training = plain("", "brats_finetune", "--batch_size=6 --save_interval=1", "")
    first = server.run(training, training.words(places), tmp_path)
    assert first.returncode == 0, first.stderr
    state = places["output"] / "models/iteration-0000001.pt"
    saved = state.read_bytes()
    resumed = replace(training, arguments=f"{training.arguments} --iterations=2 --resume=true", memory=2**30)
    ended = server.run(resumed, resumed.words(places), tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].startswith("error: out of memory on the host, ")
    assert ended.stderr.endswith(f"; {places['output']}/models keeps the last state\n")
    assert state.read_bytes() == saved
