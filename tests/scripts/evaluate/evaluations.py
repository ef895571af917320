"""Label maps and folders of evaluations that the tests share."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel
import numpy as np

from common.inference.evaluation import entry_of, new_record, write
from common.made import origin_of
from common.metrics import Protocol, Scores
from tests.support import oblique

SHAPE = (7, 8, 9)
BLOBS_SHAPE = (24, 20, 12)
AFFINE = oblique((-0.7, 1.3, 2.5))  # rotated, mirrored, anisotropic, off centre


def save(path: Path, labels, affine=AFFINE, dtype=np.uint8) -> Path:
    """Write a NIfTI file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(np.asarray(labels).astype(dtype), affine, dtype=dtype)
    nibabel.save(image, path)
    return path


def label_map(values: Sequence[int], seed: int = 0) -> np.ndarray:
    """Random labels."""
    return np.random.default_rng(seed).choice(values, SHAPE)


def blobs(seed: int) -> np.ndarray:
    """A label map with a few cuboids, some of which a prediction of the next seed overlaps."""
    generator = np.random.default_rng(seed // 2)
    labels = np.zeros(BLOBS_SHAPE, np.uint8)
    for _ in range(4):
        low = [int(generator.integers(0, edge - 5)) + seed % 2 for edge in BLOBS_SHAPE]
        size = generator.integers(2, 6, 3)
        labels[tuple(slice(start, start + edge) for start, edge in zip(low, size, strict=True))] = 1
    return labels


def write_evaluation(folder: Path, scores: Mapping[str, Mapping[str, Scores]], protocol: Protocol) -> str:
    """Write the files of an evaluation, whose label maps do not exist; return the folder."""
    convention = "brats2023" if protocol.name == "brats" else "atlas"
    record = new_record("ours", convention, protocol, origin_of({}))
    for case, measured in scores.items():
        record["cases"][case] = entry_of(folder, measured, folder / f"p/{case}.nii", folder / f"r/{case}.nii")
    write(folder, record, protocol)
    return str(folder)
