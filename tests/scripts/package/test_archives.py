"""Zips that are written and read again, and damaged or malicious zips."""

import stat
import zipfile

import pytest

from common.errors import InputError
from scripts.package import archives
from tests.support import one_line


def made(path, entries, compression=zipfile.ZIP_STORED):
    """Write a zip with these entries, (name or ZipInfo, content); return its path."""
    with zipfile.ZipFile(path, "w", compression) as content:
        for entry, data in entries:
            content.writestr(entry, data)
    return path


@pytest.fixture
def place(tmp_path):
    folder = tmp_path / "place"
    folder.mkdir()
    return folder


REFUSED = [
    *(
        (["bundle/LICENSE", name], "has an empty, . or .. part")
        for name in ("../evil", "bundle/../../evil", "/etc/passwd")
    ),
    (["bundle/LICENSE", "bundle/License"], "an entry occurs twice"),
    (["bundle/LICENSE", "\x1b[31m"], "expected a single top folder, named as the bundle"),
    *(
        (names, "expected a single top folder, named as the bundle")
        for names in ([], ["LICENSE"], ["a/x", "b/x"], ["a/"])
    ),
]


@pytest.mark.parametrize(("entries", "message"), REFUSED)
def test_entries_that_are_refused_before_anything_is_written(tmp_path, place, entries, message):
    archive = made(tmp_path / "evil.zip", [(entry, b"evil") for entry in entries])
    with pytest.raises(InputError, match=message) as caught:
        archives.unpack(archive, place)
    assert "\x1b" not in one_line(caught)
    assert list(place.iterdir()) == []
    assert not list(tmp_path.rglob("evil"))


def test_a_symlink_is_unpacked_as_a_plain_file(tmp_path, place):
    entry = zipfile.ZipInfo("bundle/common")
    entry.create_system = 3
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    folder = archives.unpack(made(tmp_path / "link.zip", [(entry, b"/etc"), ("bundle/common2", b"")]), place)
    assert (folder / "common").read_bytes() == b"/etc"
    assert not (folder / "common").is_symlink()


def test_what_is_packed_is_unpacked(tmp_path, place, original):
    archives.pack(original, tmp_path / "package.zip")
    folder = archives.unpack(tmp_path / "package.zip", place)
    assert folder == place / original.name
    assert archives.listing(folder) == archives.listing(original)
    with zipfile.ZipFile(tmp_path / "package.zip") as content:
        assert content.testzip() is None
        assert content.namelist() == sorted(content.namelist())


def test_a_package_that_is_cut_after_its_weights_is_not_read_as_the_weights(tmp_path, place):
    inner = made(tmp_path / "model.pt", [("model/data.pkl", b"weights")]).read_bytes()
    whole = made(tmp_path / "package.zip", [("bundle/models/model.pt", inner)]).read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: whole.index(inner) + len(inner)])
    with pytest.raises(InputError, match=r"cut\.zip: truncated, or data before the zip entries"):
        archives.unpack(tmp_path / "cut.zip", place)
    assert not [*place.iterdir()]
