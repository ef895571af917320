"""Files appear when they are complete; JSON and YAML are strict."""

import pytest

from common.errors import InputError
from common.files import atomic_write, read_json
from scripts.yaml_files import read_yaml


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
