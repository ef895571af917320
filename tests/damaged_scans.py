"""A small case of three images and a label map, and a table of ways to damage one of its files."""

import gzip
from pathlib import Path

import nibabel
import numpy as np

SHAPE = (10, 12, 8)
CASE = {"subject": "s", "image": ["flair.nii.gz", "t1.nii.gz", "t2.nii.gz"], "label": "seg.nii.gz"}


def brain(seed=0):
    """Return an image: a block of 6 x 8 x 4 voxels from 200 to 900 on a background of 0."""
    volume = np.zeros(SHAPE, np.int16)
    volume[2:8, 2:10, 2:6] = np.random.default_rng(seed).integers(200, 901, (6, 8, 4))
    return volume


def lesion(*values):
    volume = np.zeros(SHAPE, np.uint8)
    for offset, value in enumerate(values):
        volume[3 + offset, 4, 3] = value
    return volume


def save(path, volume, affine=None):
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([-2.0, 3.0, 4.0, 1.0]) if affine is None else affine), path)


def write_case(folder):
    """Write the undamaged files of `CASE`, with labels of BraTS 2021; return the folder."""
    for seed, file in enumerate(CASE["image"]):
        save(folder / file, brain(seed))
    save(folder / "seg.nii.gz", lesion(1, 2, 4))
    return folder


def absolute(folder, case=CASE):
    files = {"image": [str(folder / file) for file in case["image"]]}
    return {**case, **files, **({"label": str(folder / case["label"])} if "label" in case else {})}


def shifted(distance):
    affine = np.diag([-2.0, 3.0, 4.0, 1.0])
    affine[1, 3] = distance
    return affine


def cut(path, share=0.5):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def break_checksum(path):
    """Change a gzip file's checksum."""
    content = path.read_bytes()
    path.write_bytes(content[:-8] + bytes([content[-8] ^ 1]) + content[-7:])


def set_header(path, offset, kind, *values):
    """Write numbers of a NumPy type into the header of a .nii.gz file, at a byte offset."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    written = np.array(values, kind).tobytes()
    content[offset : offset + len(written)] = written
    path.write_bytes(gzip.compress(content))


def _row(check, modality, damage, text):
    """Return a function that damages a case's folder, the check that finds it, the file, and part of the message."""
    file = f"{modality}.nii.gz"
    return lambda folder: damage(folder / file), check, file, text


HEADERS = {
    "missing": _row("missing", "t1", Path.unlink, "no such file; expected a file"),
    "no image": _row("unreadable", "t1", lambda f: f.write_bytes(b"no image"), "a NIfTI or MGH file that can be"),
    "truncated": _row("unreadable", "t2", cut, "Compressed file ended before"),
    "2D": _row("dimensions", "t1", lambda f: save(f, brain()[..., 3]), "shape 10 x 12; expected three dimensions"),
    "4D": _row("dimensions", "t1", lambda f: save(f, np.stack(2 * [brain()], -1)), "shape 10 x 12 x 8 x 2; expected"),
    "shape": _row(
        "shape", "t1", lambda f: save(f, brain()[:, :, :-1]), "10 x 12 x 7; expected 10 x 12 x 8, that of flair"
    ),
    "affine": _row("affine", "t2", lambda f: save(f, brain(2), shifted(7.5)), "affine differs by up to 7.5 mm"),
    "singular": _row("affine", "t1", lambda f: set_header(f, 312, "<f4", 0, 0, 0, 0), "cannot be inverted"),
    "RGB": _row("type", "t1", lambda f: save(f, np.zeros(SHAPE, [(c, "u1") for c in "RGB"])), "expected real numbers"),
}
VOXELS = {
    "checksum": _row("unreadable", "t1", break_checksum, "CRC check failed"),
    "2023": _row(
        "label_values", "seg", lambda f: save(f, lesion(1, 2, 3)), "label 3; expected labels 0, 1, 2, 4 (brats2021)"
    ),
    "fraction": _row(
        "label_values", "seg", lambda f: save(f, lesion(1) * np.float32(0.25)), "label 0.25; expected whole"
    ),
    "empty": _row("empty_mask", "seg", lambda f: save(f, lesion()), "no voxel is labelled"),
    "full": _row("constant", "seg", lambda f: save(f, lesion() + 1), "label 1 and no 0; expected lesions, and 0"),
}
