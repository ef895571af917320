"""Files appear when they are complete, also if the writer is killed or the disk is full; JSON and YAML are strict."""

import resource
import signal
import subprocess
import sys

import pytest

from common.errors import InputError
from common.files import atomic_write, read_json
from common.locks import claimed
from scripts.yaml_files import read_yaml
from tests.support import ROOT

WRITING = """
import sys, time
from common.files import atomic_write
with atomic_write(sys.argv[1]) as file:
    file.write_bytes(b"new" * 1000)
    print(flush=True)
    time.sleep(float(sys.argv[2]))
"""


def start(path, seconds, **options):
    command = [sys.executable, "-c", WRITING, str(path), str(seconds)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def test_a_killed_writer_leaves_what_was_there_and_the_next_run_removes_its_half(tmp_path):
    path = tmp_path / "figures.json"
    path.write_text("old")
    with start(path, 600) as writer:
        writer.stdout.readline()
        writer.kill()
    assert path.read_text() == "old"
    assert len([*tmp_path.iterdir()]) == 2
    with claimed("output", tmp_path):
        pass
    assert [*tmp_path.iterdir()] == [path]


def test_a_full_disk_leaves_what_was_there(tmp_path):
    path = tmp_path / "figures.json"
    path.write_text("old")

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    with start(path, 0, preexec_fn=limit) as writer:
        assert f"{path}: cannot be written: File too large" in writer.stderr.read()
    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]


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
