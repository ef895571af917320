"""Loading and saving: nothing is unpickled, no file is half written."""

import hashlib
import io
import json
import os
import pickle
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import pytest
import torch

from common import weights
from common.ssl.networks import SSLHead
from common.weights.storage import load
from tests.support import disk_of, refused

# Loading


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_refused_and_not_run(zipped, file, tmp_path):
    """SECURITY.md: "read without unpickling any object"."""
    marker = tmp_path / "marker"
    content = {"state_dict": {"a": torch.zeros(1)}, "args": Evil(marker)}
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    with refused(f"checkpoint {file}", text="needs posix.system, and unpickling can run any code"):
        weights.read(file)
    assert not marker.exists()
    torch.load(file, weights_only=False)
    assert marker.exists()  # it would have run


def cut(size):
    """The first bytes of a checkpoint of about 9000."""
    saved = io.BytesIO()
    torch.save({"a": torch.randn(1000), "b": torch.randn(20, 50)}, saved)
    return saved.getvalue()[:size]


def zipped(name):
    saved = io.BytesIO()
    with ZipFile(saved, "w") as archive:
        archive.writestr(name, "none")
    return saved.getvalue()


def with_damaged_end():
    content = bytearray(cut(None))
    content[content.rindex(b"PK\x06\x07") + 16] = 3  # parts of the archive
    return content


UNREAD = "cannot be read as tensors alone: "


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"PK\x03\x04", UNREAD),
        (b"no checkpoint at all", UNREAD),
        (cut(900), UNREAD),
        (cut(8900), UNREAD),
        (with_damaged_end(), UNREAD),
        (b"version https://git-lfs.github.com/spec/v1\n", UNREAD + "a pointer of Git LFS, which `git lfs pull` repl"),
        (b"\n<!DOCTYPE html>", UNREAD + "a web page"),
        (pickle.dumps({"a": [1]}), UNREAD + "a plain pickle"),
        (b"", UNREAD + "empty"),
        (zipped("notes.txt"), "a zip without data.pkl; expected a file of torch.save"),
    ],
)
def test_files_that_are_taken_for_checkpoints_are_named(file, content, text):
    file.write_bytes(content)
    with refused(f"checkpoint {file}", text=text):
        weights.read(file)


def test_a_flipped_bit_is_refused(file):
    """torch.load takes it for a weight.

    SECURITY.md: "each tensor's checksum is verified"
    """
    torch.save({"a": torch.zeros(1000)}, file)
    content = bytearray(file.read_bytes())
    content[content.index(bytes(3000)) + 1000] ^= 64
    file.write_bytes(content)
    assert torch.load(file, weights_only=True)["a"].any()
    with refused(f"checkpoint {file}", text="data/0 is wrong"):
        weights.read(file)


def test_an_archive_that_inflates_is_refused_before_it_does(file):
    """SECURITY.md: "archives that inflate"."""
    torch.save({"a": torch.zeros(1000)}, file)
    with ZipFile(file) as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with ZipFile(file, "w", ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    for lazily in (False, True):
        with refused(text="data.pkl is compressed, which torch.save never does"):
            load(file, lazily)


def shared(levels):
    value = ["x"]
    for _ in range(levels):
        value = [value, value]
    return value


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"metadata": {"x": shared(60)}}, "more than 1000000 values"),
        ({"metadata": {"x": [[]] * 10**6}}, "more than 1000000 values"),
        ({"metadata": {"x": 10**5000}}, "a number with too many digits"),
        ({str(key): torch.zeros(1).expand(10**6) for key in range(1000)}, "of shape [1000000], take 4"),
        ({"a": torch.zeros(1).expand(10**6, 10**5)}, "one of shape [1000000, 100000], take 4"),
        ({"a": [{"b": torch.zeros(1).expand(10**6, 10**5)}]}, "one of shape [1000000, 100000], take 4"),
    ],
    ids=["shared", "repeated", "digits", "expanded", "wide", "nested"],
)
def test_a_small_file_causes_no_unbounded_work(file, content, message):
    """SECURITY.md: "tensors that claim much more than is stored are refused"."""
    torch.save(content, file)
    for lazily in (False, True):
        with refused(f"checkpoint {file}", text=message):  # without the limit of values: after years
            load(file, lazily)
    torch.save({"a": torch.ones(1).expand(1000)}, file)
    load(file)  # one that torch.expand has made, of a harmless size


SHARED = b")q\0" + b"".join(b"h%c\x86q%c" % (n, n + 1) for n in range(60))  # a tuple that holds the one before twice
SIZES = (b"(J\0\0\0\4t", b"(K\0t")  # 2^26 numbers, of which one is stored
STORAGE = b"(U\7storagectorch\nFloatStorage\nU\1" + b"0U\3cpuK\1tQ"
EXPANDED = b"ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + b"K\0%b%b\x89ccollections\nOrderedDict\n)RtR" % SIZES


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (b"}" + SHARED + b"Ns", "more than 1000000 values"),
        (b"}K\1\x85Ns", "a dictionary key of type TUPLE1"),
        (b"ccollections\nOrderedDict\n" + EXPANDED + b"\x85R", "calls collections.OrderedDict as torch.save never"),
        (b"ctorch\nSize\n" + EXPANDED + b"\x85R", "needs torch.Size"),
        (b"c__builtin__\nbytearray\nJ\0\0\0\x7f\x85R", "needs __builtin__.bytearray"),
        (b"]q\0\x85h\0K\1a", "is changed after it was put into another value"),
        (b"}" + SHARED[:53] + b"\x80\2" + SHARED[53:] + b"Ns", "pickle protocol 2 at byte 56; expected 2"),
        (b")\x86", "a damaged pickle"),
        (b"ccollections\nOrderedDict\n)R}U\5itemsNsb", "attributes of a dictionary: items; expected only _metadata"),
        (b"ccollections\nOrderedDict\n)Rq\0h\0b", "attributes of a dictionary: unnamed; expected only "),
        (EXPANDED, "of type Tensor; expected a dictionary"),
    ],
    ids=["shared", "tuple", "ordered", "size", "bytes", "late", "begun", "short", "items", "itself", "tensor"],
)
def test_a_program_that_works_without_bound_is_refused_before_it_runs(file, steps, message):
    """SECURITY.md: "pickle programs that call anything but what builds tensors, or that make more than 1,000,000
    values".

    PyTorch's reader without unpickling runs each of these.
    """
    for name, data in archived({"a": torch.ones(1)}).items():
        with ZipFile(file, "a") as archive:
            archive.writestr(name, b"\x80\2" + steps + b"." if name.endswith("data.pkl") else data)
    with refused(f"checkpoint {file}", text=message):
        load(file)


def test_an_archive_behind_other_data_is_refused(file):
    """Python's reader of zips and PyTorch's see different archives in such a file."""
    torch.save({"a": torch.ones(1)}, file)
    other = file.with_name("other.pt")
    for before, comment, after in ((file.read_bytes(), b"", b""), (b"", b"more", b""), (b"", b"", b"more")):
        other.write_bytes(before + file.read_bytes())
        with ZipFile(other, "a") as archive:
            archive.comment = comment
        with other.open("ab") as appended:
            appended.write(after)
        with refused(text="data before or after the archive"):
            load(other)


def archived(content):
    """The files in the archive of torch.save."""
    saved = io.BytesIO()
    torch.save(content, saved)
    with ZipFile(saved) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize(
    ("name", "what"),
    [("nothing.pt", "no such file"), (".", "a folder"), ("[a.pt,b.pt]", "no such file; quote the paths of a list, ")],
)
def test_a_missing_file_and_a_folder_are_refused(name, what, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with refused(f"checkpoint {name}", text=what):
        weights.read(name)


def test_files_of_old_versions_of_pytorch_are_read(file):
    torch.save({"state_dict": {"module.a": torch.ones(2)}}, file, _use_new_zipfile_serialization=False)
    assert torch.equal(weights.read(file).state["a"], torch.ones(2))


# Paths, versions and writing


@pytest.mark.parametrize("value", [5, ["a"], " "])
def test_other_values_than_paths_are_refused(value):
    with refused(f"checkpoint {value}"):
        weights.load(value)
    with refused("output", value):
        weights.path_of("output", value)
    assert weights.path_of("output", "a.pt") == weights.path_of("output", Path("a.pt")) == Path("a.pt")


def test_a_disk_that_fills_is_named_and_leaves_the_file_that_was_there(file):
    weights.write({"a": torch.ones(2)}, file)
    before = file.read_bytes()
    for most in (2000, 40_200):  # bytes: within a tensor, and within the archive's directory
        with disk_of(most), refused(text=": cannot be written: File too large"):
            weights.write({"a": torch.zeros(10_000)}, file)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


# Plain state dicts and the JSON beside them: read as a training's checkpoint is, and bound to one file

STATE = {"a.weight": torch.ones(2), "a.bias": torch.zeros(1)}
MEASURED = {"spacing": [[1, 1, 1]] * 2, "extent": [[9, 9, 9]] * 2, "volume": [1, 1], "air": [0, 0], "overlap": [1, 1]}
STATED = {"modalities": ["T1", "FLAIR"], "model_size": "micro", "measured": MEASURED}


@pytest.fixture
def plain(file):
    weights.write_plain(STATE, STATED, file)
    return file


def test_what_is_written_is_what_torch_and_hashlib_say(plain):
    content = torch.load(plain, weights_only=True)
    assert all(torch.equal(content[name], tensor) for name, tensor in STATE.items())
    assert content.keys() == STATE.keys()
    record = json.loads(plain.with_name("model.json").read_text())
    assert record == {"sha256": hashlib.sha256(plain.read_bytes()).hexdigest(), **STATED}


def test_every_reader_takes_it_for_a_checkpoint_of_a_training(plain, tmp_path):
    wrapped = tmp_path / "wrapped.pt"
    weights.write({"network": STATE, "metadata": STATED}, wrapped)
    first, second = weights.read(plain), weights.read(wrapped)
    assert first.state.keys() == second.state.keys()
    assert first.metadata == second.metadata == STATED
    assert weights.settings_of([str(plain), str(wrapped)]) == weights.settings_of(wrapped)
    assert weights.measured_of([str(plain), str(wrapped)]) == [MEASURED] * 2
    wrapped.with_name("wrapped.json").write_text("{")  # a file that holds more than tensors heeds no JSON
    assert weights.read(wrapped).metadata == STATED


@pytest.mark.parametrize("reader", [weights.read, weights.metadata_of])
def test_a_record_of_another_file_is_refused(plain, tmp_path, reader):
    weights.write_plain({"a": torch.zeros(1)}, {}, tmp_path / "other.pt")
    (tmp_path / "other.pt").replace(plain)
    with refused(f"checkpoint {plain}", text="json belongs to a file with "):
        reader(plain)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ('{"sha256": 7}', "no entry sha256; expected the SHA-256 and the metadata of model.pt; if this JSON is not"),
        ('{"sha256": "a", "sha256": "b"}', 'the key "sha256" occurs twice'),
    ],
)
def test_a_json_that_is_no_record_is_refused(plain, text, message):
    plain.with_name("model.json").write_text(text)
    with refused(f"checkpoint {plain}", text=message):
        weights.read(plain)


def test_a_missing_record_is_named_where_it_is_missed(plain, capsys):
    plain.with_name("model.json").unlink()
    missing = f"does not name its modalities, and {plain.with_name('model.json')} is missing; "
    assert weights.settings_of(plain) == {}
    with refused(f"checkpoint {plain}", text=missing):
        weights.initialise(SSLHead(2, "micro"), plain, ["T1", "FLAIR"])
    network = torch.nn.Module()
    network.a = torch.nn.Linear(2, 1)
    network.a.weight = torch.nn.Parameter(torch.zeros(2))
    weights.restore(network, plain, ["T1"])
    assert capsys.readouterr().out == f"checkpoint {plain}: {missing}assuming T1\n"
    assert torch.equal(network.a.weight, STATE["a.weight"])


def test_paths_may_start_from_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert weights.path_of("output", "~/x.pt") == Path("/home/me/x.pt")


@pytest.mark.parametrize("value", [torch.ones(1), float("nan"), {1, 2}])
def test_metadata_that_json_cannot_hold_are_refused(file, value):
    with refused(file.with_name("model.json")):
        weights.write_plain(STATE, {"grid": value}, file)
