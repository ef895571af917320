"""Every bad input of the tables ends its command in one line, with its status, and leaves the results as they were.

One row of each command also runs in a Python that starts cold, to show that the two end alike; see `tests.warm`.
"""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests import warm
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


def run(fault: Fault, words: list[str], cold: bool = False) -> Result:
    limits = {warm.MEMORY: fault.memory, warm.DISK: fault.disk}
    limits = {name: str(value) for name, value in limits.items() if value is not None}
    return execute([sys.executable, "-m", fault.module, *words], ROOT / fault.place, cold, **limits)


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


def check(fault: Fault, places: dict[str, Path], cold: bool = False) -> None:
    fault.prepare(places["folder"], places["cohorts"])
    before = files(places["output"])
    ended = run(fault, fault.words(places), cold)
    assert ended.returncode == fault.status, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr
    lines = ended.stderr.replace("\r", "\n").splitlines()
    assert fault.matches(lines[-1], places), ended.stderr
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
    after = {name: content for name, content in files(places["output"]).items() if not name.startswith(LOGS)}
    assert before.items() <= after.items() if fault.memory or fault.disk else before == after


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_bad_input_ends_in_one_line(places, fault):
    check(fault, places)


@pytest.mark.parametrize("fault", FIRST.values(), ids=lambda fault: fault.name)
def test_a_process_of_its_own_ends_alike(places, fault):
    check(fault, places, cold=True)


def test_the_last_state_survives_a_host_without_memory(places):
    """A training that lacks the memory for its second step leaves the state that its first one saved."""
    training = plain("", "brats_finetune", "--batch_size=6 --save_interval=1", "")
    first = run(training, training.words(places))
    assert first.returncode == 0, first.stderr
    state = places["output"] / "models/iteration-0000001.pt"
    saved = state.read_bytes()
    resumed = replace(training, arguments=f"{training.arguments} --iterations=2 --resume=true", memory=2**30)
    ended = run(resumed, resumed.words(places))
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].startswith("error: out of memory on the host, ")
    assert ended.stderr.endswith(f"; {places['output']}/models keeps the last state\n")
    assert state.read_bytes() == saved
