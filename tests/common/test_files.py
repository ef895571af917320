import csv
import errno
import json
import math
import os
import re
from itertools import pairwise

import pytest

from common.errors import InputError
from common.files import (
    atomic_write,
    cell_text,
    check_writable_file,
    check_writable_folder,
    expand_home,
    move_aside,
    valid_json,
    valid_yaml,
    write_csv,
    write_json,
)
from tests.support import ROOT


def test_a_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "figures.json"
    with atomic_write(path) as file:
        file.write_text("half")
        assert not path.exists()
        assert file.name.startswith(".figures.json.")
        file.write_text("whole")
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("place", "error", "expected", "message"),
    [
        ("figures.json", KeyError("mine"), KeyError, "mine"),
        ("file/a.json", KeyError(), InputError, r"file/a\.json: cannot be written: "),
        (
            "figures.json",
            OSError(errno.ENOSPC, "disk full"),
            InputError,
            r"figures\.json: cannot be written: disk full",
        ),
    ],
)
def test_a_block_that_fails_leaves_what_was_there(tmp_path, place, error, expected, message):
    for name in ("figures.json", "file"):
        (tmp_path / name).write_text("old")
    with pytest.raises(expected, match=message), atomic_write(tmp_path / place) as file:  # noqa: PT012
        file.write_text("half")
        raise error
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"figures.json": "old", "file": "old"}


def test_a_device_or_pipe_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with (
        pytest.raises(InputError, match="pipe: cannot be written: not a regular file"),
        atomic_write(tmp_path / "pipe"),
    ):
        pass
    assert (tmp_path / "pipe").is_fifo()


# Checks before the work


@pytest.fixture
def places(tmp_path):
    """Yield a folder that contains a file, a folder and a table."""
    (tmp_path / "folder/b.csv").mkdir(parents=True)
    (tmp_path / "file").touch()
    (tmp_path / "a.csv").touch()
    yield tmp_path
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "file", "folder"], "nothing is created"


def test_what_can_be_written_passes(places):
    for place in ("file", "a.json", "new/deep/a.json"):
        check_writable_file(places / place, "--output=X")
    for place in (".", "new/deep"):
        check_writable_folder(places / place, "--output=X", ["a.csv", "b.csv"])


def test_what_cannot_be_written_is_named(places, monkeypatch):
    for place, name in (("folder", "folder"), (".", places.name), ("folder/..", "..")):
        with pytest.raises(InputError, match=rf"^--output=X: {re.escape(name)}: a folder; expected a file$"):
            check_writable_file(places / place, "--output=X")
    for place in ("file/a.json", "file/deep/a.json"):
        with pytest.raises(InputError, match=r"^--output=X: file: a file; expected a folder that can be written to$"):
            check_writable_file(places / place, "--output=X")
    for place, line in (("file", "file: a file; .*"), ("folder", "b.csv: a folder; expected a file")):
        with pytest.raises(InputError, match=rf"^--output=X: {line}$"):
            check_writable_folder(places / place, "--output=X", ["a.csv", "b.csv"])
    monkeypatch.setattr(os, "access", lambda path, mode: path != places or mode != os.W_OK)  # root may write everywhere
    with pytest.raises(InputError, match=rf"^--output=X: {places.name}: read-only; expected a folder that can be"):
        check_writable_file(places / "new/a.json", "--output=X")


def test_a_broken_link_is_neither_replaced_nor_followed(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "unmounted/place")
    for check in (check_writable_file, check_writable_folder):
        with pytest.raises(InputError, match=r"^--output=X: link: a broken link; expected a f"):
            check(tmp_path / "link", "--output=X")
        with pytest.raises(InputError, match=r"^--output=X: link: a broken link; expected a folder that can be"):
            check(tmp_path / "link/below", "--output=X")


def test_a_path_leads_where_it_points(tmp_path):
    """SECURITY.md: "paths are read and written where they point"."""
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    write_json(tmp_path / "link/../there/a.json", [1])
    assert [valid_json(tmp_path / folder / "a.json", "a list") for folder in ("link", "there")] == [[1], [1]]


# Formats


def test_json_is_written_whole_or_not_at_all(tmp_path):
    file = tmp_path / "folder" / "figures.json"
    write_json(file, {"name": "Ä\udcff", "score": 0.5})
    assert file.read_text(encoding="utf-8") == '{\n "name": "Ä\\udcff",\n "score": 0.5\n}\n'
    with pytest.raises(ValueError, match="nan"):
        write_json(file, {"score": math.nan})
    assert json.loads(file.read_text(encoding="utf-8")) == {"name": "Ä\udcff", "score": 0.5}
    assert [path.name for path in file.parent.iterdir()] == ["figures.json"]


def test_what_is_moved_aside_is_kept_also_if_it_was_changed_in_the_same_second(tmp_path):
    file = tmp_path / "run.json"
    for content in ("first", "second"):
        file.write_text(content)
        os.utime(file, (0, 0))
        move_aside(file)
    move_aside(file)  # does not exist
    names = {"run-19700101T000000.json": "first", "run-19700101T000000x.json": "second"}
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == names


def test_tables_are_written_by_one_function():
    files = [path for folder in ("common", "scripts") for path in (ROOT / folder).rglob("*.py")]
    assert [path for path in files if "csv.writer(" in path.read_text()] == [ROOT / "common/files.py"]


# Content from outside


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"F: No such file or directory; expected a run"),
        (b"{", r"F: not JSON \(.*\); expected a run"),
        (b'{"a": 1, "a": 2}', r'F: not JSON \(the key "a" occurs twice\); expected a run'),
        (b"[" * 100_000, r"F: not JSON \(nested too deeply\); expected a run"),
        (b"[1e999]", r"F: not JSON \(inf: expected a finite number, below 1e\+100 in size\); expected a run"),
        (b"1" + b"0" * 400, r"F: not JSON \(a number with too many digits\); expected a run"),
        (b'{"a": ["x"]}', r"F: \$\.a\[0\] = \"x\": 'x' is not of type 'integer'; expected a run"),
    ],
)
def test_json_from_outside_that_does_not_fit_is_refused_in_one_line(tmp_path, content, message):
    """SECURITY.md: "read within limits of size, depth and numbers"."""
    if content is not None:
        (tmp_path / "f.json").write_bytes(content)
    schema = {"properties": {"a": {"items": {"type": "integer"}}}}
    with pytest.raises(InputError, match=f"^{message}$"):
        valid_json(tmp_path / "f.json", "a run", schema, "F")
    (tmp_path / "f.json").write_bytes(b'{"a": [1]}')
    assert valid_json(tmp_path / "f.json", "a run", schema, "F") == {"a": [1]}


@pytest.mark.parametrize(("read", "kind", "largest"), [(valid_json, "JSON", 2**28), (valid_yaml, "YAML", 2**20)])
def test_a_file_that_is_too_large_is_not_read(tmp_path, read, kind, largest):
    """SECURITY.md: "read within limits of size"."""
    with (tmp_path / "f").open("wb") as file:
        file.truncate(largest + 1)  # a sparse file
    with pytest.raises(InputError, match=rf"^F: not {kind} \(.*{largest}.*\); expected a run$"):
        read(tmp_path / "f", "a run", name="F")


@pytest.mark.parametrize("path", ["", " "])
def test_an_empty_path_is_not_the_current_folder(path):
    with pytest.raises(InputError, match=f"^--output={path}: empty; expected a path$"):
        expand_home(path, f"--output={path}")


ALIASES = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in pairwise("abcdefghij")
)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: &a [*a]", "nested too deeply"),
        (ALIASES, "more than 10000000 values"),
        ("a: [" * 5000, "nested too deeply"),
        ("a: 2001-99-99", "month must be"),
        ("a: " + "1" * 5000, "5000 digits"),
        ("a: 1\na: 2", 'the key "a" occurs twice'),
        ("!!python/object/apply:os.getcwd []", "line 1: could not determine a constructor"),
    ],
)
def test_yaml_from_outside_has_limits(tmp_path, text, why):
    """SECURITY.md: "YAML without objects"."""
    (tmp_path / "f.yaml").write_text(text)
    with pytest.raises(InputError, match=rf"^F: not YAML \(.*{why}.*\); expected a study$"):
        valid_yaml(tmp_path / "f.yaml", "a study", name="F")


def test_numbers_of_yaml_are_decimal(tmp_path):
    """YAML 1.1 reads 010 as 8, 1:30 as 90 and 1e-4 as text."""
    (tmp_path / "f.yaml").write_text("[0, -12, 1.5, 1e-4, .5, 010, 0x1, 0b1, 1:30, 1_000, 1.5:3]")
    text = ["010", "0x1", "0b1", "1:30", "1_000", "1.5:3"]
    assert valid_yaml(tmp_path / "f.yaml", "a study") == [0, -12, 1.5, 1e-4, 0.5, *text]


def test_keys_of_yaml_are_text_as_written(tmp_path):
    (tmp_path / "f.yaml").write_text("2026-01-01: &a {1: 2, on: 3}\nb: {<<: *a, 1: &k 4}\nc: {*k : 5}\nd: *k")
    expected = {"2026-01-01": {"1": 2, "on": 3}, "b": {"1": 4, "on": 3}, "c": {"4": 5}, "d": 4}
    assert valid_yaml(tmp_path / "f.yaml", "a study") == expected


@pytest.mark.parametrize("text", ["=1+1", "+1+1", "-1+cmd|'x'!A0", "@SUM(1)", "\t=1", "\n=1", "＝1", "'=1"])
def test_no_cell_begins_as_a_formula_does_and_names_come_back(tmp_path, text):
    """SECURITY.md: "text that a spreadsheet would run as a formula gets an apostrophe"."""
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
