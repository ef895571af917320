"""Every bad input of the table ends its command in one line and status 2, and changes no results."""

import re
import shutil
import sys
from pathlib import Path

import pytest

from tests import kept, warm
from tests.faults.table import BRATS, FAULTS, Fault, train
from tests.support import ROOT, Result, execute

COLD = ("monai.bundle", "scripts.run")  # also started by Python itself, not as a fork of `tests.warm`

pytestmark = pytest.mark.slow


def run(fault: Fault, places: dict[str, Path], cold: bool = False) -> Result:
    limits = {warm.MEMORY: fault.memory, warm.DISK: fault.disk}
    limits = {name: str(value) for name, value in limits.items() if value is not None}
    return execute([sys.executable, "-m", *fault.words(places)], ROOT / fault.place, cold, **limits)


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
    ended = run(fault, places, cold)
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr
    lines = ended.stderr.replace("\r", "\n").splitlines()
    assert fault.matches(lines[-1], places), ended.stderr
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
    after = files(places["output"])
    assert before.items() <= after.items() if fault.memory or fault.disk else before == after


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.command.split()[0]}: {fault.line[:80]}")
def test_bad_input_ends_in_one_line(places, fault):
    """SECURITY.md: "a mistake ends in one line and status 2"."""
    check(fault, places)


@pytest.mark.parametrize("module", COLD)
def test_a_python_that_starts_cold_ends_alike(places, module):
    check(next(fault for fault in FAULTS if fault.command.startswith(module)), places, cold=True)


def test_the_last_state_survives_a_host_without_memory(places):
    """A training without memory for its second step keeps the state of the first."""
    shutil.copytree(kept.trained(BRATS) / "models", places["output"] / "models")
    state = places["output"] / "models/iteration-0000001.pt"
    saved = state.read_bytes()
    ended = run(Fault(train("--save_interval=1 --iterations=2 --resume=true"), "", memory=2**28), places)
    assert ended.returncode == 2, ended.stderr
    batch, patch = "set --batch_size=auto --global_batch_size=2", r"lower --patch_size=\[32,32,64\]"
    line = rf"error: out of memory on the host: set --activation_checkpointing=true, or {batch}, or {patch} \(.*\)"
    assert re.fullmatch(line, ended.stderr.splitlines()[-1]), ended.stderr
    assert state.read_bytes() == saved
