"""Loading and saving: nothing is unpickled, no file is half written."""

import errno
import json
import os
import resource
import struct
import sys
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import ignite
import monai
import numpy as np
import pytest
import torch
from torch import nn

from common import weights
from common.errors import ArgumentError, InputError
from common.weights.storage import load
from tests.support import one_line

# Loading


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


class Harmless:
    pass


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_refused_and_not_run(zipped, file, tmp_path):
    marker = tmp_path / "marker"
    content = {"state_dict": {"a": torch.zeros(1)}, "args": Evil(marker)}
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match="cannot be read as tensors alone") as error:
        weights.read(file)
    assert str(file) in one_line(error)
    assert not marker.exists()
    torch.load(file, weights_only=False)
    assert marker.exists()  # it would have run


@pytest.mark.parametrize("content", [Harmless(), {"state_dict": {}, "args": Harmless()}])
def test_the_class_that_a_file_would_unpickle_is_named(file, content):
    torch.save(content, file)
    with pytest.raises(InputError, match=rf"it needs {Harmless.__module__}.Harmless, .* can run any code") as error:
        weights.read(file)
    assert "torch.save({'state_dict': model.state_dict()}, 'G.pt')" in one_line(error)


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04", b"no checkpoint at all", b"\x80\x02.", *(int(9000 * share) for share in (0.1, 0.99))],
)
def test_other_files_and_files_that_were_cut_off_are_refused(file, content):
    torch.save({"a": torch.randn(1000), "b": torch.randn(20, 50)}, file)  # about 9000 bytes
    file.write_bytes(content if isinstance(content, bytes) else file.read_bytes()[:content])
    with pytest.raises(
        InputError, match=r"cannot be read as tensors alone: .*; expected a whole file of torch.save$"
    ) as error:
        weights.read(file)
    assert str(file) in one_line(error)
    assert ("alone: empty;" in str(error.value)) == (content == b"")


def test_a_flipped_bit_is_refused(file):
    """torch.load takes it for a weight."""
    torch.save({"a": torch.zeros(1000)}, file)
    content = bytearray(file.read_bytes())
    content[content.index(bytes(3000)) + 1000] ^= 64
    file.write_bytes(content)
    assert torch.load(file, weights_only=True)["a"].any()
    with pytest.raises(InputError, match=r"damaged: .*data/0 has another checksum; expected the file as it was"):
        weights.read(file)


def test_an_archive_that_inflates_is_refused_before_it_does(file):
    torch.save({"a": torch.zeros(1000)}, file)
    with ZipFile(file) as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with ZipFile(file, "w", ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    for lazily in (False, True):
        with pytest.raises(InputError, match=r"data.pkl is compressed; expected a file as torch.save writes it"):
            load(file, lazily)


@pytest.mark.parametrize("wrapped", [lambda tensor: {"a": tensor}, lambda tensor: {"a": [{"b": tensor}]}])
def test_a_tensor_that_claims_more_than_the_file_has_is_refused(file, wrapped):
    torch.save(wrapped(torch.zeros(1).expand(10**6, 10**5)), file)
    for lazily in (False, True):
        with pytest.raises(InputError, match=r"a tensor of \[1000000, 100000\] in 4 bytes; expected all of it, as "):
            load(file, lazily)


@pytest.mark.parametrize(("name", "message"), [("nothing.pt", "no such file"), ("", "a folder; expected a file")])
def test_a_missing_file_and_a_folder_are_refused(name, message, tmp_path):
    with pytest.raises(InputError, match=message) as error:
        weights.read(tmp_path / name)
    assert str(tmp_path / name) in one_line(error)


def test_missing_permission_is_reported(file, monkeypatch):
    file.write_bytes(b"theirs")

    def refuse(*arguments, **options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(torch, "load", refuse)
    with pytest.raises(InputError, match=r"tensors alone: Permission denied; expected a file that you may read$"):
        weights.read(file)


def test_a_safetensors_file_is_refused_with_a_command_that_converts_it(file):
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    file.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    with pytest.raises(InputError, match=r"safetensors; save with torch.save\(") as error:
        weights.read(file)
    assert f"safetensors.torch.load_file('{file.name}')" in one_line(error)


def test_a_torchscript_file_is_refused_with_a_command_that_converts_it(file, recwarn):
    torch.jit.save(torch.jit.script(nn.Linear(1, 1)), str(file))
    recwarn.clear()
    with pytest.raises(InputError, match="TorchScript; save with ") as error:
        weights.read(file)
    assert not recwarn.list  # the one line is all that a user sees
    again = file.with_name("G.pt")
    line = one_line(error).split("save with ")[1].replace(file.name, str(file)).replace("G.pt", str(again))
    exec(line, {"torch": torch})
    assert set(weights.read(again).state) == {"weight", "bias"}


def test_files_of_old_versions_of_pytorch_are_read(file):
    torch.save({"state_dict": {"module.a": torch.ones(2)}}, file, _use_new_zipfile_serialization=False)
    assert torch.equal(weights.read(file).state["a"], torch.ones(2))


# Writing


def test_a_failure_while_writing_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    file = tmp_path / "new" / "models" / "model.pt"  # folders are made
    weights.write({"network": {"a": torch.ones(1)}}, file)

    def fail(content, stream):
        stream.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(InputError, match="No space left"):
        weights.write({"network": {"a": torch.zeros(1)}}, file)
    monkeypatch.undo()
    assert weights.read(file).state["a"].item() == 1
    assert list(file.parent.iterdir()) == [file]


def test_a_file_is_never_seen_half_written(file, monkeypatch):
    weights.write({"network": {"a": torch.ones(1)}}, file)
    save = torch.save

    def watch(content, stream):
        save(content, stream)
        assert weights.read(file).state["a"].item() == 1  # the old one is still there, whole

    monkeypatch.setattr(torch, "save", watch)
    weights.write({"network": {"a": torch.zeros(1)}}, file)
    assert weights.read(file).state["a"].item() == 0


# Paths and versions


@pytest.mark.parametrize("value", [5, True, ["a"], {"a": 1}, "", " "])
def test_other_values_than_paths_are_refused(value):
    with pytest.raises(InputError) as error:
        weights.load(value)
    assert one_line(error).startswith(f"checkpoint {value}: expected the path of a file")
    with pytest.raises(ArgumentError) as error:
        weights.path_of("output", value)
    assert one_line(error).startswith(f"output={value}: expected the path of a file")
    assert weights.path_of("output", "a.pt") == weights.path_of("output", Path("a.pt")) == Path("a.pt")


def test_versions_are_those_of_the_running_packages():
    assert weights.versions() == {
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "monai": monai.__version__,
        "ignite": ignite.__version__,
        "numpy": np.__version__,
    }


def test_a_disk_that_fills_is_named_and_leaves_the_file_that_was_there(file):
    weights.write({"a": torch.ones(2)}, file)
    before = file.read_bytes()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    for most in (2000, 40_200):  # bytes: within a tensor, and within the archive's directory
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, limit[1]))
        try:
            with pytest.raises(InputError, match=r": File too large; expected a file that can be written$"):
                weights.write({"a": torch.zeros(10_000)}, file)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]
