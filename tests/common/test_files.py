"""Files appear when they are complete; a folder has one writer; JSON and YAML are strict."""

import os
import subprocess
import sys

import pytest

from common.errors import ArgumentError, InputError
from common.files import atomic_write, claimed, read_json
from scripts.yaml_files import read_yaml
from tests.support import ROOT

CLAIMING = """
import os, sys, time
from common.files import claimed
with claimed("output_dir", sys.argv[1]):
    if os.fork() == 0:  # a DataLoader worker also outlives its killed parent for a while
        print(os.getpid(), flush=True)  # it has closed the lock's file by now
    time.sleep(600)
"""


def test_a_folder_has_one_writer_until_it_is_killed_even_while_its_child_lives(tmp_path):
    with claimed("ckpt_dir", tmp_path / "a"), claimed("output_dir", tmp_path / "b" / ".." / "a"):  # the same folder
        pass
    command = [sys.executable, "-c", CLAIMING, str(tmp_path / "a")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as other:
        child = int(other.stdout.readline())
        with pytest.raises(ArgumentError, match="in use by another run"), claimed("ckpt_dir", tmp_path / "a"):
            pass
        (tmp_path / "a/.run.json.4711.part").write_text("half")
        other.kill()
        other.wait()
        with claimed("output", tmp_path / "a"):
            assert [path.name for path in (tmp_path / "a").iterdir()] == [".in_use"]
        os.kill(child, 9)
    assert list((tmp_path / "a").iterdir()) == []


def test_a_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "figures.json"
    with atomic_write(path) as file:
        file.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    with pytest.raises(KeyError), atomic_write(path) as file:  # noqa: PT012
        file.write_text("half")
        raise KeyError
    assert path.read_text() == "whole"
    assert [*path.parent.iterdir()] == [path]


@pytest.mark.parametrize(
    ("read", "kind", "text"),
    [(read_json, "JSON", text) for text in ('{"a": 1, "a": 2}', "[1")]
    + [(read_yaml, "YAML", text) for text in ("a: 1\na: 2", "!!python/object/apply:os.getcwd []", "a: [1")],
)
def test_what_is_not_strict_is_refused_with_the_name_of_the_file(tmp_path, read, kind, text):
    (tmp_path / "file").write_text(text)
    with pytest.raises(InputError, match=f"file: not {kind}"):
        read(tmp_path / "file", "a study")


def test_yaml_is_of_version_1_2(tmp_path):
    """YAML 1.1 reads 1:30 as 90, 1e-4 as text, and on as true."""
    (tmp_path / "f.yaml").write_text("[0, -12, 1.5, 1e-4, .5, 1:30, on, NO, true]")
    assert read_yaml(tmp_path / "f.yaml", "a study") == [0, -12, 1.5, 1e-4, 0.5, "1:30", "on", "NO", True]
