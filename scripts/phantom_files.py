"""NIfTI files of the embedded cohort: their bytes depend on what they hold only, and they are written whole."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np

from common.files import whole

__all__ = ["copy_file", "read_volume", "write_volume"]


def write_volume(volume: np.ndarray, affine: np.ndarray, path: Path) -> None:
    """Write a gzipped NIfTI file: voxels of the volume's own type, sform and qform alike, units of mm.

    Args:
        volume: [x, y, z], or [x, y, z, t].
        affine: voxel to world space, 4 x 4, mm.
        path: ends in .nii.gz; its folder is made.
    """
    image = nib.Nifti1Image(volume, affine)
    image.header.set_xyzt_units("mm")
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    with whole(path) as file:
        file.write_bytes(gzip.compress(image.to_bytes(), compresslevel=1, mtime=0))


def read_volume(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels in the file's own type, and the affine in mm."""
    image = nib.Nifti1Image.from_filename(path)
    return np.asarray(image.dataobj), image.affine


def copy_file(source: Path, path: Path) -> None:
    """The same bytes under another name."""
    with whole(path) as file:
        file.write_bytes(source.read_bytes())
