"""Scans and label maps that are damaged, doctored or copies, in the commands that read them."""

import gzip
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np

from tests import kept
from tests.faults.table import BRATS, Fault, Prepare, plain

Change = Callable[[Path], object]
FLAIR = "{folder}/brats/…flair.nii.gz"
OWN = "--dataset_dir={folder}/brats --datalist={folder}/brats.json"


def _doctored(change: Change, modality: str) -> Prepare:
    """The cohort, linked file by file, after `change` of a file of one subject for training and one for testing."""

    def prepare(folder: Path, cohorts: Path) -> None:
        content = json.loads((cohorts / "brats.json").read_text())
        for path in (cohorts / "brats").rglob("*.nii.gz"):
            copy = folder / "brats" / path.relative_to(cohorts / "brats")
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.symlink_to(path)
        for split in ("training", "testing"):
            entry = content[split][0]
            file = folder / "brats" / (entry["label"] if modality == "label" else entry["image"][0])
            source = file.readlink()
            file.unlink()
            shutil.copy(source, file)
            change(file)
        (folder / "brats.json").write_text(json.dumps(content))
        shutil.copy(kept.trained(BRATS) / "models/model.pt", folder)

    return prepare


def _voxels(change: Callable[[np.ndarray], np.ndarray], shift: float = 0.0) -> Change:
    """Other voxels, moved by `shift` mm."""

    def write(file: Path) -> None:
        scan = nibabel.load(file)
        voxels, affine = change(np.asarray(scan.dataobj, np.float32)), scan.affine.copy()
        affine[0, 3] += shift
        nibabel.save(nibabel.Nifti1Image(voxels, affine), file)

    return write


def _bytes(change: Callable[[bytes], bytes]) -> Change:
    """Other bytes of the file."""
    return lambda file: file.write_bytes(change(file.read_bytes()))


def _header(place: int, kind: str, *values: float) -> Change:
    """Other numbers in the header, 348 bytes at the beginning."""
    content = np.array(values, kind).tobytes()

    def change(packed: bytes) -> bytes:
        plain = gzip.decompress(packed)
        return gzip.compress(plain[:place] + content + plain[place + len(content) :], 1)

    return _bytes(change)


def _with_flipped_bit(content: bytes) -> bytes:
    plain = bytearray(gzip.decompress(content))
    plain[-100] ^= 1
    return gzip.compress(bytes(plain), 1)[:-8] + content[-8:]  # with the checksum of before


def _copy_of_t1(file: Path) -> None:
    shutil.copy(file.with_name(file.name.replace("flair", "t1")).readlink(), file)


def _spoilt(voxels: np.ndarray) -> np.ndarray:
    voxels[voxels.shape[0] // 2] = np.nan
    return voxels


HEADERS: list[tuple[str, Change, str]] = [
    ("image", os.unlink, f"{FLAIR}: no such file, of subject … in …; 1 of … files are missing"),
    ("image", _bytes(lambda content: content[: len(content) // 2]), f"{FLAIR}: Compressed file ended before …"),
    ("image", _header(292, "<f4", 99), f"{FLAIR}: affine differs by up to … mm; expected that of …"),
    ("image", _header(42, "<i2", 1024, 1024, 768), f"{FLAIR}: shape 1024 x 1024 x 768, which takes 3 GiB …"),
    ("image", _copy_of_t1, "….nii.gz: also an image of another modality; expected another content than …"),
    ("label", _voxels(lambda voxels: voxels, 9), "….nii.gz: affine differs by up to 9 mm; expected …"),
]
VOXELS: list[tuple[str, Change, str]] = [
    ("image", _bytes(_with_flipped_bit), f"{FLAIR}: CRC check failed; expected a NIfTI file as it was written"),
    (
        "image",
        _voxels(lambda voxels: np.full_like(voxels, 7)),
        f"{FLAIR}: 7 in every voxel that is not 0; expected a brain, not a mask of it",
    ),
    ("image", _voxels(_spoilt), f"{FLAIR}: NaN or infinite voxels; expected finite ones"),
    (
        "image",
        _bytes(lambda content: gzip.compress(gzip.decompress(content) + bytes(2**22), 1)),
        f"{FLAIR}: more than 1048576 bytes after the … that its header declares…",
    ),
    (
        "label",
        _voxels(lambda voxels: voxels + 7),
        "….nii.gz: label 7, 8, 9, 11; the convention brats2021 knows 0, 1, 2, 4",
    ),
]
FAULTS: list[Fault] = [
    *(
        plain(BRATS, OWN, f"…{line}", prepare=_doctored(change, modality))
        for modality, change, line in (*HEADERS, *VOXELS)
    ),
    *(
        plain(BRATS, f"{OWN} --checkpoint={{folder}}/model.pt", f"…{line}", "evaluate", prepare=_doctored(change, name))
        for name, change, line in (VOXELS[0], VOXELS[2], VOXELS[4])
    ),
]
