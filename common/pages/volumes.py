"""Read volumes to draw slices of, in RAS orientation; damaged files are expected."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from ..data.scan_checks import broken_file
from ..metrics.surfaces import box_of

__all__ = ["AXES", "grey_levels", "read_on_grid", "read_volume", "widened"]

SAME_GRID = 0.01  # mm; the affines of image and label map may differ by this much

# The volume's axes along the rows and columns of a slice that `common.inference.plane_of` cuts.
AXES = {"axial": (1, 0), "coronal": (2, 0), "sagittal": (2, 1)}


def read_volume(path: str | Path) -> tuple[np.ndarray, np.ndarray] | None:
    """Read a volume in the orientation nearest to RAS; of several volumes in a file, the first.

    Returns:
        Voxels [x, y, z] and affine [4, 4], mm. None if the file is damaged, is not a volume, or has a spacing that is
        not positive.
    """
    if broken_file([str(path)]):  # a reader would allocate all that a damaged header promises
        return None
    try:
        scan: Any = nibabel.load(path)
        scan = nibabel.as_closest_canonical(scan)
        voxels = np.asarray(scan.dataobj, dtype=np.float32)
    except Exception:  # of a damaged file; the checks of headers say how
        return None
    spacing = nibabel.affines.voxel_sizes(scan.affine)
    if voxels.ndim < 3 or not voxels.size or not (np.isfinite(spacing) & (spacing > 0)).all():
        return None
    return voxels.reshape(*voxels.shape[:3], -1)[..., 0], scan.affine


def read_on_grid(
    path: str | Path, shape: tuple[int, ...], affine: NDArray[np.float64]
) -> tuple[NDArray[np.float32] | None, str]:
    """Read a volume that must be on the grid of a label map in RAS orientation.

    Returns:
        Voxels [x, y, z] and "", or None and why there are none, such as "is on another grid".
    """
    found = read_volume(path)
    if found is None:
        return None, "cannot be read"
    if found[0].shape != shape or not np.allclose(found[1], affine, atol=SAME_GRID):
        return None, "is on another grid"
    return found[0], ""


def widened(mask: NDArray[np.bool_], margin: Any) -> tuple[slice, slice, slice]:
    """The bounding box of a mask, widened within the array; the entire array for an empty mask.

    Args:
        mask: [x, y, z].
        margin: voxels, of all axes or of each.
    """
    box = box_of(mask) or tuple(slice(0, side) for side in mask.shape)
    margins = np.broadcast_to(margin, 3).astype(int)
    x, y, z = (slice(max(0, side.start - reach), side.stop + reach) for side, reach in zip(box, margins, strict=True))
    return x, y, z


def grey_levels(volume: np.ndarray) -> np.ndarray:
    """Scale voxels to 0 to 255, from the percentile 0.5 to 99.8; voxels that are not finite become 0."""
    odd = ~np.isfinite(volume)
    low, high = np.percentile(np.where(odd, 0, volume), (0.5, 99.8))
    return np.clip((np.where(odd, low, volume) - low) / max(high - low, 1e-6), 0, 1) * 255
