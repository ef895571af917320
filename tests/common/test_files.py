import errno
import os

import pytest

from common.files import leftovers, looking_at, remove, whole
from common.preflight import InputError


def test_a_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "figures.json"
    with whole(path) as file:
        file.write_text("half")
        assert not path.exists()
        assert leftovers(path.parent, "*.json") == [file]
        file.write_text("whole")
    assert path.read_text() == "whole"
    assert leftovers(path.parent, "*.json") == []


def half_write(path, error):
    with whole(path) as file:
        file.write_text("half")
        raise error


def test_a_block_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "figures.json"
    path.write_text("old")
    with pytest.raises(KeyError):
        half_write(path, KeyError())
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("figures.json", "old")]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match=r"file/a\.json: .*; expected a file that can be written"):
        half_write(tmp_path / "file" / "a.json", KeyError())


def test_a_full_disk_is_named(tmp_path):
    with pytest.raises(InputError, match=r"figures\.json: No space left on device; expected"):
        half_write(tmp_path / "figures.json", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_removed_or_named(tmp_path):
    (tmp_path / "a").touch()
    remove(tmp_path / "a")
    remove(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match=r": .*; expected a file that can be replaced"):
        remove(tmp_path)


@pytest.mark.parametrize(
    ("error", "reason"),
    [(PermissionError(errno.EACCES, "Permission denied"), "Permission denied"), (RuntimeError("no home"), "no home")],
)
def test_a_path_that_cannot_be_looked_at_is_named(error, reason):
    with (
        pytest.raises(InputError, match=f"^--folder=x: {reason}; expected a path that can be read$"),
        looking_at("--folder=x"),
    ):
        raise error
