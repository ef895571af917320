"""A folder has one writer at a time, also if processes are killed."""

import os
import subprocess
import sys

import pytest

from common.errors import ArgumentError
from common.locks import claimed
from tests.support import ROOT

CLAIMING = """
import os, sys, time
from common.locks import claimed
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
        with pytest.raises(ArgumentError) as refused, claimed("ckpt_dir", tmp_path / "a"):
            pass
        assert str(refused.value).startswith(f"ckpt_dir={tmp_path}/a: in use by another run")
        (tmp_path / "a/.run.json.4711.part").write_text("half")
        other.kill()
        other.wait()
        with claimed("output", tmp_path / "a"):
            assert [path.name for path in (tmp_path / "a").iterdir()] == [".in_use"]
        os.kill(child, 9)
    assert list((tmp_path / "a").iterdir()) == []
