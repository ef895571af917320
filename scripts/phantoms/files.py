"""NIfTI files of the embedded cohort, read and copied."""

from pathlib import Path

import numpy as np

from common.files import atomic_write

__all__ = ["FAST", "copy_file", "read_volume"]

FAST = 1  # compression level; the embedded cohort is written more often than it is stored


def read_volume(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels in the file's own type, and the affine in mm."""
    import nibabel  # here, as `--help` need not wait for it

    image = nibabel.Nifti1Image.from_filename(path)
    return np.asarray(image.dataobj), image.affine


def copy_file(source: Path, path: Path) -> None:
    """Copy the bytes of a file to another name."""
    with atomic_write(path) as file:
        file.write_bytes(source.read_bytes())
