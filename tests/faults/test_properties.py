"""For any content of an untrusted file, its reader returns valid data or raises an `InputError` of one line."""

import gzip
import io
import json
import zipfile
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.data.datalists import read
from common.data.scan_checks import broken_file, check_headers
from common.dicom.geometry import read_series
from common.dicom.study import read_study
from common.errors import InputError
from common.weights.storage import load
from scripts.package.archives import unpack
from tests.common.dicom.dicom_study import Study, write_series
from tests.damaged_scans import brain

SETTINGS = settings(max_examples=150, deadline=None, derandomize=True, database=None)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
KEYS = ["name", "modalities", "label_convention", "regions", "training", "validation", "folds", "subset", "preparation"]
FLIPS = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=4)


@contextmanager
def one_line(secret=""):
    """Context manager: the block may raise an `InputError` of one line that does not quote a secret, nothing else."""
    message = "none"
    try:
        yield
    except InputError as error:
        message = str(error)
    assert message
    assert "\n" not in message
    assert not secret or secret not in message


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder that the examples share."""
    return tmp_path_factory.mktemp("examples")


def flipped(content: bytes, flips: list[tuple[float, int]]) -> bytes:
    """Flip bits of some bytes; a flip has a position from 0, the first byte, to 1, the end, and the bits."""
    changed = bytearray(content)
    for position, bits in flips:
        changed[int(position * len(changed))] ^= bits
    return bytes(changed)


@SETTINGS
@given(content=JSON | st.dictionaries(st.sampled_from(KEYS), JSON), bytes_before=st.binary(max_size=3))
def test_datalists_of_any_json(folder, content, bytes_before):
    file = folder / "list.json"
    file.write_bytes(bytes_before + json.dumps(content).encode())
    with one_line():
        assert set(read(file)) >= {"name", "modalities", "label_convention"}


@SETTINGS
@given(subject=st.text(max_size=300), images=st.lists(st.none() | st.text(max_size=300), max_size=3), label=st.text())
def test_datalists_of_any_names(folder, subject, images, label):
    entry = {"subject": subject, "image": images, "label": label}
    content = {"name": "a", "modalities": ["T1", "T2"], "label_convention": "atlas", "training": [entry]}
    (folder / "list.json").write_text(json.dumps(content))
    with one_line():
        (read_entry,) = read(folder / "list.json")["training"]
        assert (folder / f"{read_entry['subject']}.nii.gz").parent == folder
        for path in filter(None, [*read_entry["image"], read_entry["label"]]):
            assert (folder / path).resolve().is_relative_to(folder.resolve())


@SETTINGS
@given(flips=FLIPS, compressed=st.booleans())
def test_scans_with_any_header(folder, flips, compressed):
    plain = nibabel.Nifti1Image(brain(), np.eye(4)).to_bytes()
    content = flipped(plain[:352], flips) + plain[352:]
    file = folder / ("scan.nii.gz" if compressed else "scan.nii")
    file.write_bytes(gzip.compress(content, 1) if compressed else content)
    with one_line(), np.errstate(all="ignore"):
        check_headers([{"subject": "s", "image": [str(file)]}])
        broken_file([file])


@SETTINGS
@given(flips=FLIPS)
def test_scans_with_any_bytes(folder, flips):
    packed = gzip.compress(nibabel.Nifti1Image(brain(), np.eye(4)).to_bytes(), 1, mtime=0)
    content = flipped(packed, flips)
    (folder / "packed.nii.gz").write_bytes(content)
    with one_line():
        check_headers([{"subject": "s", "image": [str(folder / "packed.nii.gz")]}])
    if broken_file([folder / "packed.nii.gz"]) is None:
        assert gzip.decompress(content) == gzip.decompress(packed), "voxels that differ pass as sound"


@SETTINGS
@given(flips=FLIPS, cut=st.floats(0.5, 1))
def test_checkpoints_with_any_bytes(folder, flips, cut):
    weights = {"network": {"a": torch.arange(999.0)}, "metadata": {"bundle": "b"}}
    stream = io.BytesIO()
    torch.save(weights, stream)
    content = flipped(stream.getvalue(), flips)
    (folder / "model.pt").write_bytes(content[: int(cut * len(content))])
    with one_line():
        network = load(folder / "model.pt").get("network", {})
        if isinstance(network, dict) and isinstance(network.get("a"), torch.Tensor):
            assert torch.equal(network["a"], weights["network"]["a"]), "weights that differ pass as sound"


@SETTINGS
@given(
    names=st.lists(
        st.text(max_size=12) | st.sampled_from(["b/a", "../a", "/a", "b/../../a", "b\\a", "b/A"]), max_size=4
    ),
    flips=st.just([]) | FLIPS,
)
def test_archives_with_any_names_and_bytes(names, flips):
    with TemporaryDirectory() as name:
        place = Path(name)
        with zipfile.ZipFile(place / "package.zip", "w") as archive:
            for entry in names:
                with suppress(UnicodeEncodeError, IndexError):  # names that a zip cannot hold
                    archive.writestr(entry, "content")
        content = (place / "package.zip").read_bytes()
        (place / "package.zip").write_bytes(flipped(content, flips))
        (place / "unpacked").mkdir()
        with one_line():
            assert unpack(place / "package.zip", place / "unpacked").parent == place / "unpacked"
        assert sorted(path.name for path in place.iterdir()) == ["package.zip", "unpacked"]


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """The files of a small series."""
    folder = tmp_path_factory.mktemp("series")
    write_series(folder, brain().astype(np.uint16), np.eye(4), Study(), 1)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@SETTINGS
@given(flips=FLIPS)
def test_dicom_of_any_bytes(series, flips):
    """Of the first file of a series, as `scripts.prepare` and the app read it."""
    with TemporaryDirectory() as name:
        for number, (file, content) in enumerate(series.items()):
            (Path(name) / file).write_bytes(content if number else flipped(content, flips))
        with one_line(secret="SENTINEL"):  # of the patient
            for found in read_study(Path(name)):
                assert np.isfinite(read_series(found)[0].array).all()
