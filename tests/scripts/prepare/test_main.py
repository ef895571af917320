"""Options that cannot be: one line, status 2, nothing written."""

import pytest

from scripts.prepare.steps import accepted_of


@pytest.fixture
def minimal(tmp_path):
    """The required options, and a subject with an empty file."""
    (tmp_path / "raw/a").mkdir(parents=True)
    (tmp_path / "raw/a/a_T1.nii.gz").write_bytes(b"")
    return {"root": str(tmp_path / "raw"), "output": str(tmp_path / "out"), "like": "atlas"}


def test_names_that_look_like_numbers_can_be_accepted(minimal, run_prepare):
    """Those of UK Biobank: Python reads 1234567_20252_2_0 as a number."""
    options = [f"--{name}={value}" for name, value in minimal.items()]
    result = run_prepare(*options, "--accept=1234567_20252_2_0")
    assert "error: --accept=1234567_20252_2_0: no such subject: 1234567_20252_2_0; expected some of a" in result.stderr


def test_subjects_are_accepted_by_name():
    for accept, expected in {"a:b,c": ["a:b", "c"], "d,e": ["d,e"], None: []}.items():
        assert accepted_of(accept, ["a:b", "c", "d,e"]) == expected, accept
