import gzip
import os
import signal

import nibabel
import numpy as np
import pytest

from scripts.datalists import layouts, slices


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_slices_are_axial_whatever_the_order_of_the_axes(tmp_path, order):
    """World axis `w` runs along voxel axis `order[w]`."""
    volume = np.zeros((3, 4, 9), np.float32)
    volume[1, 1, [2, 3, 7]] = 0.5
    volume[0, 0, 5] = -1
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for world in range(3):
        affine[world, order[world]] = -2 if world == 2 else 1
    turned = np.moveaxis(volume, (0, 1, 2), order)
    nibabel.Nifti1Image(turned, affine).to_filename(tmp_path / "scan.nii.gz")
    assert turned.shape[order[2]] == 9
    assert slices.slices_with_signal(tmp_path / "scan.nii.gz") == 3


def test_an_unreadable_volume_has_no_count(tmp_path):
    volume = np.random.default_rng(0).integers(0, 999, (20, 20, 20), np.int16)
    nibabel.Nifti1Image(volume, np.eye(4)).to_filename(tmp_path / "scan.nii.gz")
    assert slices.slices_with_signal(tmp_path / "scan.nii.gz") == 20
    content = (tmp_path / "scan.nii.gz").read_bytes()
    raw = gzip.decompress(content)
    damaged = {"empty.nii.gz": b"", "text.nii.gz": b"text", "half.nii.gz": content[: len(content) // 2]}
    headers = {"size": (42, [30000] * 3), "type": (70, [7777]), "sides": (40, [3, -4]), "axes": (40, [99])}
    for name, (offset, values) in headers.items():
        field = np.array(values, "<i2").tobytes()
        plain = raw[:offset] + field + raw[offset + len(field) :]
        damaged |= {f"{name}.nii": plain, f"{name}.nii.gz": gzip.compress(plain)}
    colours = np.ones((2, 2, 2), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    for name, voxels in {"rgb": colours, "4d": np.ones((2, 2, 2, 2), np.int16)}.items():
        damaged[f"{name}.nii"] = nibabel.Nifti1Image(voxels, np.eye(4)).to_bytes()
    for name, written in damaged.items():
        (tmp_path / name).write_bytes(written)
        assert slices.slices_with_signal(tmp_path / name) is None, name


def count_or_die(path):
    if "dies" in path:
        os.kill(os.getpid(), signal.SIGKILL)
    return len(path)


def test_an_image_that_kills_its_process_counts_as_unreadable(monkeypatch):
    monkeypatch.setattr(slices, "slices_with_signal", count_or_die)
    names = ["dies" if number in (3, 40) else str(number) for number in range(50)]
    visits = [layouts.Visit(name, name, (name, "b"), None, ()) for name in names]
    expected = [(None if name == "dies" else len(f"r/{name}"), 3) for name in names]
    assert slices.count_slices(visits, "r", workers=2) == expected
    assert slices.count_slices([], "r") == []
