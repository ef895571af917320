"""Read label maps."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from common.data.headers import broken_file, first_line
from common.errors import InputError
from common.prepare.volumes import Grid, Volume

__all__ = ["read_labels"]

MOST = 64  # labels in a map; more look like an image


def read_labels(path: Path, expected: Grid | None = None) -> Volume:
    """Read a label map in NIfTI.

    Args:
        path: of the file.
        expected: grid that it must lie on; None: any.

    Raises:
        InputError: it cannot be read, lies on another grid, or holds no labels.
    """
    if broken := broken_file([path]):
        raise InputError(f"{path}: {broken[1]}; expected a label map")
    try:
        image: Any = nibabel.load(path)
        voxels = np.asarray(image.dataobj)
    except Exception as error:  # readers raise many kinds for damaged files
        raise InputError(f"{path}: {first_line(error)}; expected a label map") from error
    shape = " x ".join(map(str, voxels.shape))
    if voxels.ndim != 3:
        raise InputError(f"{path}: {shape} voxels; expected a label map with three axes")
    if expected is not None and not Grid(voxels.shape, image.affine).is_same(expected):
        here = " x ".join(map(str, expected.shape))
        raise InputError(f"{path}: {shape} voxels on another grid; expected the {here} of the prepared scans")
    values = np.unique(voxels)
    if not np.isfinite(values).all() or (values != values.round()).any() or values.min() < 0 or values.max() > 65535:
        raise InputError(
            f"{path}: values from {values.min():g} to {values.max():g}; expected labels, whole numbers from 0"
        )
    if len(values) > MOST:
        raise InputError(f"{path}: {len(values)} different values; expected a label map")
    return Volume(voxels.astype(np.uint8 if values.max() < 256 else np.uint16), np.asarray(image.affine))
