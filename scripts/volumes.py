"""Volumes to draw slices of: read with care, as the files may be damaged, and turned to RAS orientation."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from common.checks import broken_file

__all__ = ["AXES", "grey_levels", "read_volume"]

# The axes of the volume along the rows and the columns of a slice by `common.pictures.plane_of`.
AXES = {"axial": (1, 0), "coronal": (2, 0), "sagittal": (2, 1)}


def read_volume(path: str | Path) -> tuple[np.ndarray, np.ndarray] | None:
    """The voxels [x, y, z], nearest to RAS orientation, and their affine [4, 4]; of several volumes the first.

    None where the file is damaged, is no volume, or has a spacing that is not above zero.
    """
    if broken_file([str(path)]):  # a reader would make room for all that the header promises
        return None
    try:
        scan: Any = nibabel.load(path)
        scan = nibabel.as_closest_canonical(scan)
        voxels = np.asarray(scan.dataobj, dtype=np.float32)
    except Exception:  # a damaged file: the checks say how
        return None
    spacing = nibabel.affines.voxel_sizes(scan.affine)
    if voxels.ndim < 3 or not voxels.size or not (np.isfinite(spacing) & (spacing > 0)).all():
        return None
    return voxels.reshape(*voxels.shape[:3], -1)[..., 0], scan.affine


def grey_levels(volume: np.ndarray) -> np.ndarray:
    """The voxels from 0 to 255, between the percentiles 0.5 and 99.8; those that are not finite are 0."""
    odd = ~np.isfinite(volume)
    low, high = np.percentile(np.where(odd, 0, volume), (0.5, 99.8))
    return np.clip((np.where(odd, low, volume) - low) / max(high - low, 1e-6), 0, 1) * 255
