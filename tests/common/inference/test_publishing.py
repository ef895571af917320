"""Results that appear together or not at all, in processes that are killed at each step."""

import itertools
import json
import os
import shutil
import signal
import sys
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path

import pytest

from common.errors import InputError
from common.inference import publishing
from common.inference.publishing import begin, check_finished, finish
from common.locks import claim, release
from tests.support import execute

EARLIER = {"evaluation.html": "old", "metrics.csv": "old", "pictures/c.png": "old", "predictions/a.nii": "old"}
EARLIER |= {"predictions/c.nii": "old", "run.json": "old", "summary.json": "old", "tensorboard/c/events": "old"}
MINE = {"mine.txt": "mine", "predictions/mine.nii": "mine"}  # what no evaluation wrote
OLD = EARLIER | MINE
NEW = {"metrics.csv": "new", "pictures/a.png": "new", "predictions/a.nii": "new", "predictions/b.nii": "new"}
NEW |= {"evaluation.html": "new", "run.json": "new", "slices/a.html": "new", "summary.json": "new"}


def fill(folder, content):
    for name, text in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.fixture
def evaluated(tmp_path):
    """Makes a folder with the results of an evaluation, and files of somebody else."""

    def evaluated(name):
        if not (tmp_path / "first").exists():
            assert evaluate(tmp_path / "first", content=EARLIER)
            fill(tmp_path / "first", MINE)
        return shutil.copytree(tmp_path / "first", tmp_path / name)

    return evaluated


def content_of(folder):
    """Files by name, but for their list and the lock of a process that was killed; the one moved aside without time."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {
        "run-old.json" if name.startswith("run-") else name: path.read_text()
        for name, path in files.items()
        if name not in (".in_use", ".files.json")
    }


def visible(folder):
    return {name: text for name, text in content_of(folder).items() if not name.startswith(".")}


def evaluating(folder, step, content):
    """Evaluate, in a process that is killed before a step of its file operations."""
    steps = itertools.count()

    def counted(function):
        def call(*arguments, **options):
            if next(steps) == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return call

    for place, name in ((Path, "rename"), (Path, "replace"), (Path, "unlink"), (Path, "rmdir"), (shutil, "rmtree")):
        setattr(place, name, counted(getattr(place, name)))
    fill(Path(begin(folder)), content)
    finish(folder)


def evaluate(folder, step=None, content=NEW):
    """Whether a process that evaluates and is killed before a step of its file operations finished."""
    process = get_context("fork").Process(target=evaluating, args=(folder, step, content))
    process.start()
    process.join()
    return process.exitcode == 0


AFTER = MINE | {"run-old.json": "old"} | NEW


def test_a_process_that_is_killed_at_any_step_leaves_old_results_or_new_ones(evaluated):
    found = []
    for step in range(60):
        folder = evaluated(str(step))
        finished = evaluate(folder, step)
        seen = visible(folder)
        assert seen in (OLD, AFTER) or "summary.json" not in seen, "nothing takes a mixture for an evaluation"
        before = content_of(folder)
        if (folder / ".finished").exists():
            with pytest.raises(InputError, match="moving its results here, or was interrupted"):
                check_finished(folder)
        else:
            check_finished(folder)
        assert content_of(folder) == before, "readers change nothing"
        begin(folder)
        kept = visible(folder)
        found.append("old" if kept == OLD else "new" if kept == AFTER else kept)
        assert content_of(folder) == kept, "left-over files are removed by the next run"
        release(folder)
        if finished:
            break
    assert finished
    assert found == sorted(found, reverse=True)
    assert set(found) == {"old", "new"}
    assert json.loads((folder / ".files.json").read_text()) == sorted(NEW)
    assert not (folder / "tensorboard").exists(), "a folder without files"


def test_results_without_a_list_of_their_files_all_stay(tmp_path):
    slices = {"slices/notes.txt": "mine"}
    fill(tmp_path, OLD | slices | {"slices/old.html": "old"})
    assert evaluate(tmp_path)
    kept = {name: text for name, text in OLD.items() if name != "evaluation.html"}
    assert content_of(tmp_path) == kept | slices | AFTER, "but for the pages, which are of the earlier scores"


def test_what_stands_behind_a_link_or_in_the_place_of_a_folder_stays(evaluated, tmp_path):
    folder = evaluated("a")
    shutil.move(folder / "predictions", tmp_path / "elsewhere")
    (folder / "predictions").symlink_to(tmp_path / "elsewhere")
    before = content_of(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"a/predictions: a symbolic link; expected a folder"):
        begin(folder)
    release(folder)
    assert content_of(tmp_path / "elsewhere") == before
    folder = evaluated("b")
    shutil.rmtree(folder / "predictions")
    (folder / "predictions").write_text("mine")
    assert evaluate(folder, content={"summary.json": "new"})
    assert (folder / "predictions").read_text() == "mine"
    folder = evaluated("c")
    (folder / "predictions/c.nii").unlink()
    fill(folder, {"predictions/c.nii/mine": "mine"})
    assert evaluate(folder)
    assert content_of(folder) == AFTER | {"predictions/c.nii/mine": "mine"}


@pytest.mark.parametrize("text", ['["../mine"]', '["/mine"]', '["a\\u0000b"]', '[""]', "[7]", "{}", "[", "[" * 100_000])
def test_a_list_that_names_what_no_evaluation_writes_is_refused_before_the_work(tmp_path, text):
    fill(tmp_path / "eval", OLD)
    fill(tmp_path, {"mine": "mine", "eval/.files.json": text})
    with pytest.raises(InputError, match=r"\.files\.json: .*expected the files of an evaluation, or no such file"):
        begin(tmp_path / "eval")
    release(tmp_path / "eval")
    assert content_of(tmp_path / "eval") == OLD
    assert (tmp_path / "mine").exists()


def test_a_run_that_fails_leaves_the_earlier_results(tmp_path):
    fill(tmp_path, OLD)

    def fail():
        with publishing.publishing(tmp_path, "output") as unfinished:
            fill(unfinished, NEW)
            raise InputError("no disk")

    with pytest.raises(InputError, match="no disk"):
        fail()
    assert content_of(tmp_path) == OLD


def test_a_process_that_ends_with_an_error_removes_what_it_has_written(tmp_path):
    fill(tmp_path, OLD)
    code = f"from common.inference.publishing import begin; open(begin('{tmp_path}') + '/a', 'w').close(); 1 / 0"
    assert "ZeroDivisionError" in execute([sys.executable, "-c", code]).stderr
    assert content_of(tmp_path) == OLD
    assert not (tmp_path / ".unfinished").exists()


def test_only_one_process_evaluates_into_a_folder(tmp_path):
    claim("output_dir", tmp_path)
    assert not evaluate(tmp_path)
    release(tmp_path)
    assert evaluate(tmp_path)


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "metrics.csv" / "deep").mkdir(parents=True)
    fill(tmp_path / ".finished", NEW)
    with pytest.raises(InputError, match=r"metrics\.csv: Is a directory; expected a file that can be written$"):
        begin(tmp_path)
    release(tmp_path)
    assert (tmp_path / ".finished" / "summary.json").exists()


@pytest.mark.parametrize(
    "trap",
    [
        {"x/.finished/out/f": "evil", "x/out": "->"},
        {"x/.finished": "->"},
        {"x/slices": "->", "x/.finished/.files.json": "[]"},
        {"x/tables": "->", "x/.files.json": '["tables/mine.txt"]', "x/.finished/.files.json": "[]"},
        {"x/.unfinished": "->"},
        {"x/.in_use": "->mine.txt"},
        {"x/.in_use": "->new.txt"},
    ],
    ids=str,
)
def test_nothing_behind_a_link_in_a_foreign_folder_changes(tmp_path, trap):
    target = {"mine.txt": "mine", "mine.html": "mine", "f": "mine"}
    fill(tmp_path / "target", target)
    links = {name: text[2:] for name, text in trap.items() if text.startswith("->")}
    fill(tmp_path, {name: text for name, text in trap.items() if name not in links})
    for name, target_name in links.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).symlink_to(tmp_path / "target" / target_name)
    with suppress(InputError):
        check_finished(tmp_path / "x")
    with suppress(InputError):
        begin(tmp_path / "x")
    release(tmp_path / "x")
    assert content_of(tmp_path / "target") == target
