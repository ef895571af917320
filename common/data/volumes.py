"""Write NIfTI volumes: complete or not at all, and the same bytes for the same content."""

import gzip
from pathlib import Path

import numpy as np

from ..files import atomic_write

__all__ = ["write_volume"]


def write_volume(
    path: str | Path,
    voxels: np.ndarray,
    affine: np.ndarray,
    qform_code: int = 1,
    sform_code: int = 1,
    compresslevel: int = 6,
) -> None:
    """Write a gzipped NIfTI file in mm, in the voxels' own type.

    Args:
        path: ends in .nii.gz; its folder is created.
        voxels: [x, y, z] or [x, y, z, t], of a type that NIfTI has.
        affine: from voxels to mm, [4, 4].
        qform_code: space of the quaternion: 0 unknown, 1 scanner, 2 aligned, 3 Talairach, 4 MNI.
        sform_code: space of the affine, likewise.
        compresslevel: of gzip, 1 to 9; 6 compresses a label map of a brain in 0.1 s.

    Raises:
        InputError: the file cannot be written.
    """
    import nibabel  # here, as it is slow to import

    image = nibabel.Nifti1Image(voxels, None)
    image.set_sform(affine, code=sform_code, update_affine=False)
    image.set_qform(affine, code=qform_code)  # also updates the image's affine, so that nibabel keeps the codes
    image.header.set_xyzt_units("mm")
    with atomic_write(path) as file:
        file.write_bytes(gzip.compress(image.to_bytes(), compresslevel=compresslevel, mtime=0))
