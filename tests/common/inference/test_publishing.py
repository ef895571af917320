"""Results that appear together or not at all, in processes that are killed at each step."""

import json
import subprocess
import sys

import pytest

from common.errors import InputError
from common.files import claim, release
from common.inference import publishing
from common.inference.publishing import begin, finish, place_of, settle
from tests.support import ROOT

OLD = {"evaluation.html": "old", "metrics.csv": "old", "mine.txt": "mine", "predictions/a.nii": "old"}
OLD |= {"predictions/c.nii": "old", "run.json": "old", "summary.json": "old"}
NEW = {"metrics.csv": "new", "pictures/a.png": "new", "predictions/a.nii": "new", "predictions/b.nii": "new"}
NEW |= {"run.json": "new", "summary.json": "new"}

EVALUATING = """
import json, os, pathlib, shutil, signal, sys
from common.inference import publishing
folder, new, step = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3])
done = 0
def counted(function):
    def call(*arguments, **options):
        global done
        if done == step:
            os.kill(os.getpid(), signal.SIGKILL)
        done += 1
        return function(*arguments, **options)
    return call
for place, name in ((pathlib.Path, "rename"), (pathlib.Path, "replace"), (pathlib.Path, "unlink"), (shutil, "rmtree")):
    setattr(place, name, counted(getattr(place, name)))
unfinished = pathlib.Path(publishing.begin(folder))
for name, content in new.items():
    (unfinished / name).parent.mkdir(parents=True, exist_ok=True)
    (unfinished / name).write_text(content)
publishing.finish(folder)
print("finished", flush=True)
os._exit(0)
"""


def fill(folder, content):
    for name, text in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def content_of(folder):
    """Files by name, but for the lock of a process that was killed; one that was moved aside without its time."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {
        "run-old.json" if name.startswith("run-") else name: path.read_text()
        for name, path in files.items()
        if name != ".in_use"
    }


def visible(folder):
    return {name: text for name, text in content_of(folder).items() if not name.startswith(".")}


def evaluate(folder, step):
    """A process that evaluates and is killed before a step of its file operations; whether it finished."""
    command = [sys.executable, "-c", EVALUATING, str(folder), json.dumps(NEW), str(step)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout == "finished\n"


AFTER = {"mine.txt": "mine", "predictions/c.nii": "old", "run-old.json": "old"} | NEW


def test_a_process_that_is_killed_at_any_step_leaves_old_results_or_new_ones(tmp_path):
    found = []
    for step in range(40):
        folder = tmp_path / str(step)
        fill(folder, OLD)
        finished = evaluate(folder, step)
        seen = visible(folder)
        assert seen in (OLD, AFTER) or "summary.json" not in seen, "nothing takes a mixture for an evaluation"
        settle(folder)
        kept = visible(folder)
        found.append("old" if kept == OLD else "new" if kept == AFTER else kept)
        begin(folder)
        assert visible(folder) == content_of(folder) == kept, "left-over files are removed by the next run"
        release(folder)
        if finished:
            break
    assert finished
    assert found == sorted(found, reverse=True)
    assert set(found) == {"old", "new"}


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
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
    assert content_of(tmp_path) == OLD
    assert not (tmp_path / ".unfinished").exists()


def test_only_one_process_evaluates_into_a_folder(tmp_path):
    claim("output_dir", tmp_path)
    assert not evaluate(tmp_path, 1000)
    release(tmp_path)
    assert evaluate(tmp_path, 1000)


def test_a_place_is_that_of_the_finished_results(tmp_path):
    assert place_of(begin(tmp_path)) == tmp_path == place_of(tmp_path)
    finish(tmp_path)
    release(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "metrics.csv" / "deep").mkdir(parents=True)
    fill(tmp_path / ".finished", NEW)
    with pytest.raises(InputError, match=r"metrics\.csv: Is a directory; expected a file that can be written$"):
        settle(tmp_path)
    assert (tmp_path / ".finished" / "summary.json").exists()
