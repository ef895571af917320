"""Who may prepare a subject, and what is left of those who were killed; threads of a SLURM job."""

from dataclasses import dataclass

import pytest
import SimpleITK as sitk  # noqa: N813, the field's name for it

from common.errors import InputError
from common.locks import lock
from scripts.prepare.cohort import Outcome, run_in_processes
from scripts.prepare.scans import Subject
from scripts.prepare.store import WORK, alone, begin


def test_a_subject_is_prepared_by_one_process_at_a_time(tmp_path):
    with begin(tmp_path, "a"):
        with (
            pytest.raises(InputError, match=r"^another process prepares it; expected the same command again"),
            begin(tmp_path, "a"),
        ):
            pass
        with begin(tmp_path, "b"):
            assert sorted(path.name for path in (tmp_path / WORK).iterdir()) == ["a.unfinished", "b.unfinished"]
    assert list((tmp_path / WORK).iterdir()) == []
    with begin(tmp_path, "a"):
        pass


def test_only_what_nobody_works_on_is_removed(tmp_path):
    """A command was killed; one of its SLURM jobs was, too, and another still prepares a subject."""
    for name in ("killed", "alive"):
        (tmp_path / WORK / f"{name}.unfinished/new").mkdir(parents=True)
    with lock(tmp_path / WORK / "alive.unfinished"), alone(tmp_path):
        assert sorted(path.name for path in (tmp_path / WORK).iterdir()) == ["alive.unfinished", "lock"]
        assert (tmp_path / WORK / "alive.unfinished/new").is_dir()
        with (
            pytest.raises(InputError, match="another process prepares scans there; expected to be alone"),
            alone(tmp_path),
        ):
            pass


@dataclass(frozen=True)
class Order:
    subject: Subject


def tell_threads(order):
    return Outcome(str(sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()))


class Here:
    """An array whose one job is this process."""

    def map(self, function, items, unit):
        return [function(item) for item in items]


@pytest.mark.parametrize(("given", "expected"), [("3", "3"), (None, "1")])
def test_a_slurm_job_uses_the_cores_that_it_was_given(monkeypatch, given, expected):
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    if given:
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", given)
    try:
        (outcome,) = run_in_processes(tell_threads, [Order(Subject("a", {}))], 8, "subject", Here())
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)
    assert outcome.name == expected
