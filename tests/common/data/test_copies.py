"""Images that stand for two modalities or subjects are refused, by their checksums and then by their contents."""

import gzip
import shutil

import pytest

from common.data import copies
from common.data.copies import check_copies
from common.errors import InputError
from tests.damaged_scans import brain, save


def case(subject, *files):
    return {"subject": subject, "image": [None if file is None else str(file) for file in files]}


@pytest.fixture
def files(tmp_path):
    """Four different volumes, the last one without compression."""
    found = [tmp_path / name for name in ("a.nii.gz", "b.nii.gz", "c.nii.gz", "d.nii")]
    for seed, file in enumerate(found):
        save(file, brain(seed))
    return found


def test_different_images_pass_and_so_does_one_modality_in_two_channels(files):
    a, b, c, d = files
    check_copies([case("s", a, a, None), case("t", b, c), case("u", d)])
    check_copies([])


def test_the_file_of_another_subject_is_refused(files):
    a, b, c, _ = files
    line = f"^subject t: {b}: the same file is listed for subject s too$"
    with pytest.raises(InputError, match=line):
        check_copies([case("s", a, b), case("t", b, c)])


@pytest.mark.parametrize("place", [0, 3])
def test_a_copy_under_another_name_is_refused(files, tmp_path, place):
    copy = tmp_path / f"copy{''.join(files[place].suffixes)}"
    shutil.copy(files[place], copy)
    line = f"^subject t: {copy}: the same content as {files[place]}, which is listed for subject s too$"
    with pytest.raises(InputError, match=line):
        check_copies([case("s", files[place], files[1]), case("t", copy, files[2])])
    line = f"^subject s: {copy}: the same content as .*, which is listed for two modalities$"
    with pytest.raises(InputError, match=line):
        check_copies([case("s", files[place], copy)])


def test_a_copy_that_was_compressed_anew_is_refused(files, tmp_path):
    copy = tmp_path / "copy.nii.gz"
    copy.write_bytes(gzip.compress(gzip.decompress(files[0].read_bytes()), compresslevel=1, mtime=7))
    assert copy.read_bytes() != files[0].read_bytes()
    with pytest.raises(InputError, match=r"copy.nii.gz: the same content as .*, which is listed for subject s too"):
        check_copies([case("s", files[0]), case("t", copy)])


def test_equal_checksums_of_different_images_are_no_copy(files, monkeypatch):
    monkeypatch.setattr(copies, "_fingerprint", lambda file: file.endswith(".gz"))
    check_copies([case("s", *files[:3]), case("t", files[3])])
