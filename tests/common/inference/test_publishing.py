"""Results that appear together or not at all, in processes that are killed at each step."""

import itertools
import os
import signal
from multiprocessing import get_context
from pathlib import Path

from common.inference.publishing import begin, finish

OLD = {"metrics.csv": "old", "predictions/a.nii": "old", "predictions/c.nii": "old", "run.json": "old"}
OLD |= {"evaluation.html": "old", "slices/a.html": "old", "summary.json": "old"}
MINE = {"mine.txt": "mine", "tables/mine.csv": "mine"}  # what no evaluation wrote
NEW = {"metrics.csv": "new", "predictions/a.nii": "new", "run.json": "new", "summary.json": "new"}


def fill(folder, content):
    for name, text in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def content_of(folder):
    """Files by name, but for the lock of a process that was killed."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_text() for name, path in files.items() if name != ".in_use"}


def evaluating(folder, step):
    """Evaluate, in a process that is killed before a step of its file operations."""
    steps = itertools.count()

    def counted(function):
        def call(*arguments, **options):
            if next(steps) == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return call

    for name in ("rename", "mkdir", "unlink", "rmdir"):
        setattr(Path, name, counted(getattr(Path, name)))
    fill(Path(begin(folder)), NEW)
    finish(folder)


def evaluate(folder, step=None):
    """Whether a process that evaluates and is killed before a step of its file operations finished."""
    process = get_context("fork").Process(target=evaluating, args=(folder, step))
    process.start()
    process.join()
    return process.exitcode == 0


def test_a_process_that_is_killed_at_any_step_keeps_the_earlier_results_and_leaves_no_mixture(tmp_path):
    for step in range(60):
        folder = tmp_path / str(step)
        fill(folder, OLD | MINE)
        finished = evaluate(folder, step)
        seen = content_of(folder)
        assert sorted(seen.values()).count("old") == len(OLD), "nothing is lost"
        if "summary.json" in seen:
            assert {name: seen[name] for name in seen.keys() & NEW.keys()} in (NEW, dict.fromkeys(NEW, "old"))
        if finished:
            break
        assert evaluate(folder), "the next run needs no help"
        assert {name: text for name, text in content_of(folder).items() if "earlier-" not in name} == NEW | MINE
        assert list(content_of(folder).values()).count("old") == len(OLD)
    assert finished
    (earlier,) = folder.glob("earlier-*")
    assert content_of(earlier) == OLD, "what belongs together stays together"
    assert {name: text for name, text in seen.items() if not name.startswith(earlier.name)} == NEW | MINE
