"""Read label maps."""

from pathlib import Path

import numpy as np

from common.data import scan_checks
from common.errors import InputError
from scripts.prepare.volumes import Grid, Volume

HIGHEST = 65535  # label value; results have at most 16 bits
MOST = 64  # labels in a map; a file with more is probably an image


def read_labels(path: Path, expected: Grid | None = None, of: str = "the prepared scans") -> Volume:
    """Read a label map as uint8 or uint16; raise an InputError for an image, a damaged file or an unexpected grid.

    Messages call `expected` the grid of `of`.
    """
    image, voxels = scan_checks.read_scan(path)
    if expected is not None:
        grids = (voxels.shape, image.affine), (expected.shape, expected.affine)
        scan_checks.check_grid(str(path), *grids, of)
    labels = scan_checks.labels_in(str(path), voxels)
    if min(labels) < 0 or max(labels) > HIGHEST:
        raise InputError(f"{path}: labels from {min(labels)} to {max(labels)}; expected 0 to {HIGHEST}")
    if len(labels) > MOST:
        raise InputError(f"{path}: {len(labels)} different values; expected a label map")
    return Volume(np.rint(voxels).astype(np.uint8 if max(labels) < 256 else np.uint16), np.asarray(image.affine))
