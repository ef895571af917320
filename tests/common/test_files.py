import json
import math

import pytest

from common.files import (
    atomic_write,
    valid_yaml,
    write_csv,
    write_json,
)


def test_a_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "figures.json"
    with atomic_write(path) as file:
        file.write_text("half")
        assert not path.exists()
        assert file.name.startswith(".figures.json.")
        file.write_text("whole")
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


# Formats


def test_json_is_written_whole_or_not_at_all(tmp_path):
    file = tmp_path / "folder" / "figures.json"
    write_json(file, {"name": "Ä\udcff", "score": 0.5})
    assert file.read_text(encoding="utf-8") == '{\n "name": "Ä\\udcff",\n "score": 0.5\n}\n'
    with pytest.raises(ValueError, match="nan"):
        write_json(file, {"score": math.nan})
    assert json.loads(file.read_text(encoding="utf-8")) == {"name": "Ä\udcff", "score": 0.5}
    assert [path.name for path in file.parent.iterdir()] == ["figures.json"]


# Content from outside


def test_numbers_of_yaml_are_decimal(tmp_path):
    """YAML 1.1 reads 010 as 8, 1:30 as 90 and 1e-4 as text."""
    (tmp_path / "f.yaml").write_text("[0, -12, 1.5, 1e-4, .5, 010, 0x1, 0b1, 1:30, 1_000, 1.5:3]")
    text = ["010", "0x1", "0b1", "1:30", "1_000", "1.5:3"]
    assert valid_yaml(tmp_path / "f.yaml", "a study") == [0, -12, 1.5, 1e-4, 0.5, *text]


def test_keys_of_yaml_are_text_as_written(tmp_path):
    (tmp_path / "f.yaml").write_text("2026-01-01: &a {1: 2, on: 3}\nb: {<<: *a, 1: &k 4}\nc: {*k : 5}\nd: *k")
    expected = {"2026-01-01": {"1": 2, "on": 3}, "b": {"1": 4, "on": 3}, "c": {"4": 5}, "d": 4}
    assert valid_yaml(tmp_path / "f.yaml", "a study") == expected


def test_numbers_and_other_text_are_written_as_they_are(tmp_path):
    row = [-1.5, "-1.5", "+2e-3", "-inf", "P-1", "'s-Gravenhage", "a=b", "", -3]
    write_csv(tmp_path / "table.csv", [row])
    assert (tmp_path / "table.csv").read_text() == "-1.5,-1.5,+2e-3,-inf,P-1,'s-Gravenhage,a=b,,-3\n"
