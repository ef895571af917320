"""Who may prepare a subject, and what is left of those who were killed."""

import pytest

from common.errors import InputError
from common.locks import lock
from scripts.prepare.store import WORK, alone, begin, folder_of, move
from tests.support import one_line


def test_a_subject_is_prepared_by_one_process_at_a_time(tmp_path):
    with begin(tmp_path, "a"):
        with (
            pytest.raises(InputError, match=r"^another process prepares it; expected the same command again"),
            begin(tmp_path, "a"),
        ):
            pass
        with begin(tmp_path, "b"):
            assert sorted(path.name for path in (tmp_path / WORK).iterdir()) == ["a.unfinished", "b.unfinished"]
    assert list((tmp_path / WORK).iterdir()) == []
    with begin(tmp_path, "a"):
        pass


def test_only_what_nobody_works_on_is_removed(tmp_path):
    """A command was killed; one of its SLURM jobs was, too, and another still prepares a subject."""
    for name in ("killed", "alive"):
        (tmp_path / WORK / f"{name}.unfinished/new").mkdir(parents=True)
    with lock(tmp_path / WORK / "alive.unfinished"), alone(tmp_path):
        assert sorted(path.name for path in (tmp_path / WORK).iterdir()) == ["alive.unfinished", "lock"]
        assert (tmp_path / WORK / "alive.unfinished/new").is_dir()
        with (
            pytest.raises(InputError, match="another process prepares scans there; expected to be alone"),
            alone(tmp_path),
        ):
            pass


def test_a_subject_lies_in_one_place_and_is_not_lost_if_it_cannot_be_moved(tmp_path):
    """Also if an earlier version of it lies where it is moved."""
    for is_out, content in ((True, "new"), (False, "old")):
        folder = folder_of(tmp_path, "a", is_out)
        folder.mkdir(parents=True)
        (folder / "record").write_text(content)
    with begin(tmp_path, "a"):
        move(tmp_path, "a", is_left_out=False)
    assert (tmp_path / "a/record").read_text() == "new"
    hidden = folder_of(tmp_path, "a", is_left_out=True)
    assert not hidden.exists()
    hidden.parent.rmdir()
    hidden.parent.touch()
    with pytest.raises(InputError, match="expected a folder that can be written") as error:
        move(tmp_path, "a", is_left_out=True)
    assert one_line(error)
    assert (tmp_path / "a/record").read_text() == "new"
