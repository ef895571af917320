"""Loading and saving: nothing is unpickled, no file is half written."""

import io
import os
from zipfile import ZipFile

import pytest
import torch

from common import weights
from tests.support import disk_of, refused

# Loading


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_refused_and_not_run(zipped, file, tmp_path):
    marker = tmp_path / "marker"
    content = {"state_dict": {"a": torch.zeros(1)}, "args": Evil(marker)}
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    with refused(f"checkpoint {file}", text="needs posix.system, and unpickling can run any code"):
        weights.read(file)
    assert not marker.exists()
    torch.load(file, weights_only=False)
    assert marker.exists()  # it would have run


def zipped(name):
    saved = io.BytesIO()
    with ZipFile(saved, "w") as archive:
        archive.writestr(name, "none")
    return saved.getvalue()


def test_a_flipped_bit_is_refused(file):
    """torch.load takes it for a weight."""
    torch.save({"a": torch.zeros(1000)}, file)
    content = bytearray(file.read_bytes())
    content[content.index(bytes(3000)) + 1000] ^= 64
    file.write_bytes(content)
    assert torch.load(file, weights_only=True)["a"].any()
    with refused(f"checkpoint {file}", text="data/0 is wrong"):
        weights.read(file)


def test_files_of_old_versions_of_pytorch_are_read(file):
    torch.save({"state_dict": {"module.a": torch.ones(2)}}, file, _use_new_zipfile_serialization=False)
    assert torch.equal(weights.read(file).state["a"], torch.ones(2))


# Paths, versions and writing


def test_a_disk_that_fills_is_named_and_leaves_the_file_that_was_there(file):
    weights.write({"a": torch.ones(2)}, file)
    before = file.read_bytes()
    for most in (2000, 40_200):  # bytes: within a tensor, and within the archive's directory
        with disk_of(most), refused(text=": cannot be written: File too large"):
            weights.write({"a": torch.zeros(10_000)}, file)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]
