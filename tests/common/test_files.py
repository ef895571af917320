import csv
import errno
import json
import math
import os
from pathlib import Path

import pytest

from common.errors import InputError
from common.files import (
    atomic_write,
    cell_text,
    check_writable_file,
    check_writable_folder,
    digest,
    expand_home,
    move_aside,
    reporting_path_errors,
    write_csv,
    write_json,
)
from common.locks import unfinished_files
from tests.support import ROOT


def test_a_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "figures.json"
    with atomic_write(path) as file:
        file.write_text("half")
        assert not path.exists()
        assert unfinished_files(path.parent, "*.json") == [file]
        file.write_text("whole")
    assert path.read_text() == "whole"
    assert unfinished_files(path.parent, "*.json") == []


def half_write(path, error):
    with atomic_write(path) as file:
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


@pytest.mark.parametrize(
    ("error", "reason"),
    [(PermissionError(errno.EACCES, "Permission denied"), "Permission denied"), (RuntimeError("no home"), "no home")],
)
def test_a_path_that_cannot_be_looked_at_is_named(error, reason):
    with (
        pytest.raises(InputError, match=f"^--folder=x: {reason}; expected a path that can be read$"),
        reporting_path_errors("--folder=x"),
    ):
        raise error


@pytest.mark.parametrize("place", ["a.json", "new/deep/a.json"])
def test_a_file_that_can_be_written_passes(tmp_path, place):
    check_writable_file(tmp_path / place, "--output=X")
    (tmp_path / "a.json").touch()
    check_writable_file(tmp_path / place, "--output=X")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"], "nothing is created"


@pytest.mark.parametrize("place", ["folder", "file/a.json", "file/deep/a.json", ".", "folder/.."])
def test_a_file_that_cannot_be_written_is_named(tmp_path, place):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"^--output=X: expected a file that can be written$"):
        check_writable_file(tmp_path / place, "--output=X")


def test_permission_to_write_is_checked(tmp_path, monkeypatch):
    """A test that runs as root may write everywhere."""
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path or mode != os.W_OK)
    with pytest.raises(InputError, match=r"^--output=X: expected a file that can be written$"):
        check_writable_file(tmp_path / "new/a.json", "--output=X")
    with pytest.raises(InputError, match=r"^--output=X: expected a folder that can be written to$"):
        check_writable_folder(tmp_path / "new", "--output=X")


def test_a_folder_that_can_be_written_passes(tmp_path):
    (tmp_path / "a.csv").touch()
    check_writable_folder(tmp_path, "--output=X", ["a.csv", "b.csv"])
    check_writable_folder(tmp_path / "new/deep", "--output=X", ["a.csv"])
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"], "nothing is created"


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder/b.csv").mkdir(parents=True)
    for place in ("file", "file/deep", "folder"):
        with pytest.raises(InputError, match=r"^--output=X: expected a folder that a.csv, b.csv can be written to$"):
            check_writable_folder(tmp_path / place, "--output=X", ["a.csv", "b.csv"])


def test_a_path_that_is_too_long_is_named(tmp_path):
    with pytest.raises(InputError, match=r"^--output=X: File name too long; expected a path that can be read$"):
        check_writable_folder(tmp_path / ("a" * 300), "--output=X")


def test_a_tilde_is_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert expand_home("~/a.json", "--output=X") == Path("/home/me/a.json")
    with pytest.raises(InputError, match=r"^--output=X: .*; expected a path that can be read$"):
        expand_home("~nobody_of_this_name/a.json", "--output=X")


def test_json_is_written_whole_or_not_at_all(tmp_path):
    file = tmp_path / "folder" / "figures.json"
    write_json(file, {"name": "Ä\udcff", "score": 0.5})
    assert file.read_text(encoding="utf-8") == '{\n "name": "Ä\\udcff",\n "score": 0.5\n}\n'
    assert json.loads(file.read_text(encoding="utf-8"))["name"] == "Ä\udcff"
    with pytest.raises(ValueError, match="nan"):
        write_json(file, {"score": math.nan})
    assert json.loads(file.read_text(encoding="utf-8"))["score"] == 0.5
    assert [path.name for path in file.parent.iterdir()] == ["figures.json"]


def test_a_digest_is_that_of_sha256sum(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")  # NIST FIPS 180-4, example
    assert digest(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_what_is_moved_aside_is_kept_also_if_it_was_changed_in_the_same_second(tmp_path):
    file = tmp_path / "run.json"
    for content in ("first", "second"):
        file.write_text(content)
        os.utime(file, (0, 0))
        move_aside(file)
    move_aside(file)  # there is none
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "run-19700101T000000.json": "first",
        "run-19700101T000000x.json": "second",
    }


@pytest.mark.parametrize(
    "text", ["=1+1", "+1+1", "-1+cmd|'x'!A0", "@SUM(1)", "\t=1", "\r=1", "\n=1", "＝1", "'=1", "''+x"]
)
def test_no_cell_begins_as_a_formula_does_and_names_come_back(tmp_path, text):
    write_csv(tmp_path / "table.csv", [["subject", "note"], [text, "a"], ["b", text]])
    with (tmp_path / "table.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows == [["subject", "note"], [f"'{text}", "a"], ["b", f"'{text}"]]
    assert [cell_text(cell) for cell in rows[1]] == [text, "a"]


def test_numbers_and_other_text_are_written_as_they_are(tmp_path):
    row = [-1.5, "-1.5", "+2e-3", "-inf", "P-1", "'s-Gravenhage", "a=b", "", -3]
    write_csv(tmp_path / "table.csv", [row])
    assert (tmp_path / "table.csv").read_text() == "-1.5,-1.5,+2e-3,-inf,P-1,'s-Gravenhage,a=b,,-3\n"
    assert [cell_text(str(value)) for value in row] == [str(value) for value in row]


def test_tables_are_written_by_one_function():
    writers = [path for path in (ROOT / "common").rglob("*.py") if "csv.writer(" in path.read_text()]
    writers += [path for path in (ROOT / "scripts").rglob("*.py") if "csv.writer(" in path.read_text()]
    assert writers == [ROOT / "common/files.py"]
