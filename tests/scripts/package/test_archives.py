"""Zips written with the same bytes everywhere, and zips that someone has made to do harm."""

import hashlib
import os
import stat
import struct
import subprocess
import zipfile

import pytest

from common.errors import ArgumentError, InputError
from scripts.package import archives


def made(path, entries, compression=zipfile.ZIP_STORED):
    """A zip with these entries: (name or ZipInfo, content)."""
    with zipfile.ZipFile(path, "w", compression) as content:
        for entry, data in entries:
            content.writestr(entry, data)
    return path


def special(name, kind):
    entry = zipfile.ZipInfo(name)
    entry.create_system = 3
    entry.external_attr = (kind | 0o777) << 16
    return entry


@pytest.fixture
def place(tmp_path):
    folder = tmp_path / "place"
    folder.mkdir()
    return folder


@pytest.fixture
def package(tmp_path):
    folder = tmp_path / "bundle"
    (folder / "configs").mkdir(parents=True)
    (folder / "configs/b.yaml").write_text("b: 2\n")
    (folder / "a.txt").write_bytes(b"\x00\xff")
    return folder


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "bundle/../../evil",
        "bundle/..",
        "/etc/passwd",
        "//server/share",
        "bundle//a",
        "C:/evil",
        "C:evil",
        "bundle\\..\\evil",
        "..\\evil",
        "bundle/./a",
        "bundle/new\nline",
        "bundle/\x1b[31m",
    ],
)
def test_names_that_lead_elsewhere(tmp_path, place, name):
    archive = made(tmp_path / "evil.zip", [("bundle/LICENSE", b"x"), (name, b"evil")])
    with pytest.raises(InputError, match="would land outside") as caught:
        archives.unpack(archive, place)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert list(place.iterdir()) == [], "nothing is written before all names are looked at"
    assert not list(tmp_path.rglob("evil"))


def test_a_name_that_is_cut_off_at_a_zero(tmp_path, place):
    archive = made(tmp_path / "zero.zip", [("bundle/aXb", b"x")])
    archive.write_bytes(archive.read_bytes().replace(b"bundle/aXb", b"bundle/a\0b"))
    with pytest.raises(InputError, match="would land outside"):
        archives.unpack(archive, place)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_special_files(tmp_path, place, kind):
    archive = made(tmp_path / "link.zip", [(special("bundle/common", kind), b"/etc")])
    with pytest.raises(InputError, match="bundle/common is a symlink or another special file"):
        archives.unpack(archive, place)
    assert list(place.iterdir()) == []


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("twin", ["bundle/a", "bundle/A"])
def test_an_entry_that_is_there_twice(tmp_path, place, twin):
    with pytest.raises(InputError, match=f"{twin} occurs twice"):
        archives.unpack(made(tmp_path / "twice.zip", [("bundle/a", b"1"), (twin, b"2")]), place)


def test_a_file_that_is_also_a_folder(tmp_path, place):
    with pytest.raises(InputError, match="expected the zip of a package"):
        archives.unpack(made(tmp_path / "odd.zip", [("bundle/a", b"1"), ("bundle/a/b", b"2")]), place)


@pytest.mark.parametrize("entries", [[], [("LICENSE", b"x")], [("a/x", b"x"), ("b/x", b"x")], [("a/", b"")]])
def test_anything_but_one_folder(tmp_path, place, entries):
    with pytest.raises(InputError, match="expected one folder in it"):
        archives.unpack(made(tmp_path / "odd.zip", entries), place)


def test_more_than_is_allowed(tmp_path, place):
    archive = made(tmp_path / "bomb.zip", [("bundle/zeros", bytes(10**7))], zipfile.ZIP_DEFLATED)
    assert archive.stat().st_size < 20_000
    message = r"bomb\.zip: 0\.00931 GiB in it; expected 0\.001 GiB at most, unless --largest_package is set higher"
    with pytest.raises(InputError, match=message):
        archives.unpack(archive, place, largest=0.001)
    assert list(place.iterdir()) == []
    assert (archives.unpack(archive, place, largest=0.01) / "zeros").stat().st_size == 10**7


@pytest.mark.parametrize("largest", [0, -1, float("nan"), True, "8"])
def test_a_limit_that_is_none(tmp_path, place, largest):
    with pytest.raises(ArgumentError, match=rf"largest_package={largest}: expected a number from 0\.001"):
        archives.unpack(made(tmp_path / "a.zip", [("bundle/a", b"1")]), place, largest)


def test_a_size_that_lies(tmp_path, place):
    """The directory says 10 bytes, and a million come out: no more of them than it says."""
    archive = made(tmp_path / "lie.zip", [("bundle/zeros", bytes(10**6))], zipfile.ZIP_DEFLATED)
    archive.write_bytes(archive.read_bytes().replace(struct.pack("<L", 10**6), struct.pack("<L", 10)))
    with pytest.raises(InputError, match="cannot be read as a zip"):
        archives.unpack(archive, place)
    assert sum(file.stat().st_size for file in place.rglob("*") if file.is_file()) <= 10


def test_too_many_files(tmp_path, place, monkeypatch):
    monkeypatch.setattr(archives, "MOST_FILES", 3)
    with pytest.raises(InputError, match="4 files in it; expected 3 at most; a folder that you have unpacked"):
        archives.unpack(made(tmp_path / "many.zip", [(f"bundle/{n}", b"") for n in range(4)]), place)


@pytest.mark.parametrize(("number", "value"), [(6, 1), (8, 99)])  # of a local header: flags, compression
def test_encryption_and_unknown_compression(tmp_path, place, number, value):
    archive = made(tmp_path / "odd.zip", [("bundle/a", b"secret")])
    data = bytearray(archive.read_bytes())
    data[number] = value
    data[data.index(b"PK\x01\x02") + number + 2] = value
    archive.write_bytes(data)
    with pytest.raises(InputError, match="encrypted, or compressed by another method"):
        archives.unpack(archive, place)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-30],
        lambda data: data.replace(b"whole", b"wrong"),
        lambda _: b"",
        lambda data: data.replace("é".encode(), b"\xc3/"),  # a name that says it is UTF-8
    ],
)
def test_damaged_files(tmp_path, place, damage):
    archive = made(tmp_path / "cut.zip", [("bundle/é", b"whole")])
    archive.write_bytes(damage(archive.read_bytes()))
    with pytest.raises(InputError, match="cannot be read as a zip"):
        archives.unpack(archive, place)


def test_what_is_packed_is_unpacked(tmp_path, place, package):
    archives.pack(package, tmp_path / "bundle.zip")
    folder = archives.unpack(tmp_path / "bundle.zip", place)
    assert folder == place / "bundle"
    assert archives.listing(folder) == archives.listing(package)
    with zipfile.ZipFile(tmp_path / "bundle.zip") as content:
        assert content.testzip() is None
        assert content.namelist() == ["bundle/a.txt", "bundle/configs/b.yaml"]


def test_only_names_and_contents_decide_the_bytes(tmp_path, package):
    archives.pack(package, tmp_path / "first.zip")
    os.utime(package / "a.txt", (1, 1))
    (package / "a.txt").chmod(0o600)
    (package / "__pycache__").mkdir()
    (package / "__pycache__/x.pyc").write_bytes(b"x")
    archives.pack(package, tmp_path / "second.zip")
    assert (tmp_path / "first.zip").read_bytes() == (tmp_path / "second.zip").read_bytes()


def test_the_listing_is_that_of_sha256sum(package):
    text = archives.listing(package)
    assert text.splitlines()[0] == f"{hashlib.sha256(bytes([0, 255])).hexdigest()}  a.txt"
    checked = subprocess.run(["sha256sum", "-c"], cwd=package, input=text, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
    assert archives.listing(package, leave_out=["a.txt"]) == text.splitlines(keepends=True)[1]


def test_a_symlink_is_named(package):
    (package / "common").symlink_to("/etc")
    with pytest.raises(InputError, match="common is a symlink to /etc"):
        archives.files_of(package)
