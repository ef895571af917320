"""Read label maps."""

from pathlib import Path

import numpy as np

from common.data.scan_checks import label_counts, read_scan
from common.errors import InputError
from common.prepare.volumes import Grid, Volume

HIGHEST = 65535  # label value; results have at most 16 bits
MOST = 64  # labels in a map; a file with more is probably an image


def read_labels(path: Path, expected: Grid | None = None, of: str = "the prepared scans") -> Volume:
    """Read a label map; raise an InputError for an image, a damaged file, or a grid that differs from `expected`."""
    image, voxels = read_scan(path)
    if expected is not None and not Grid(voxels.shape, image.affine).is_same(expected):
        shape, here = (" x ".join(map(str, edges)) for edges in (voxels.shape, expected.shape))
        raise InputError(f"{path}: wrong grid ({shape} voxels); expected the grid of {of} ({here})")
    values, _ = label_counts(voxels)
    if not np.isfinite(values).all() or (values != values.round()).any() or values.min() < 0 or values.max() > HIGHEST:
        raise InputError(
            f"{path}: values from {values.min():.7g} to {values.max():.7g}; expected whole numbers from 0 to {HIGHEST}"
        )
    if len(values) > MOST:
        raise InputError(f"{path}: {len(values)} different values; expected a label map")
    return Volume(voxels.astype(np.uint8 if values.max() < 256 else np.uint16), np.asarray(image.affine))
