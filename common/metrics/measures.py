"""Dice and 95th percentile Hausdorff distance of a region, with checks of their input."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..components import Mask
from ..errors import InputError
from .surfaces import Spacing, percentile_distance, surface_of

SINGLE = 1e-7  # relative tolerance of an edge rounded to single precision, whose error is below 2^-24


def dice(prediction: ArrayLike, reference: ArrayLike) -> float:
    """Return the Dice of two masks of any shape, 2 |P and R| / (|P| + |R|), from 0 to 1; 1 if both are empty.

    Masks are arrays or tensors of booleans, or of numbers that are 0 or 1. Raises `InputError` for other values and for
    different shapes.

    Example:
        >>> dice([1, 1, 0], [0, 1, 0])
        0.6666666666666666
    """
    first, second = as_masks(prediction, reference)
    total = count_voxels(first) + count_voxels(second)
    return 2 * count_voxels(first & second) / total if total else 1.0


def hd95(prediction: ArrayLike, reference: ArrayLike, spacing: Sequence[float] = (1, 1, 1)) -> float:
    """Return the 95th percentile Hausdorff distance in mm, weighted by surface area (`common.metrics.surfaces`).

    The masks [x, y, z] are as for `dice`, `spacing` is that of the voxels in mm. The distance is 0 if both masks are
    empty, infinity if only one is.
    """
    x, y, z = map(float, spacing)
    first, second = (surface_of(mask, (x, y, z)) for mask in as_masks(prediction, reference))
    return percentile_distance(first, second, (x, y, z))


def spacing_of(affine: ArrayLike) -> Spacing:
    """Return the voxel spacing in mm of an affine [4, 4].

    NIfTI stores single precision: 0.7 becomes 0.699999988, and edges of oblique grids get errors of the same size. The
    result is the shortest decimal within `SINGLE` of the stored value.
    """
    x, y, z = (_decimal(float(edge)) for edge in np.linalg.norm(np.asarray(affine, float)[:3, :3], axis=0))
    return x, y, z


def _decimal(edge: float) -> float:
    decimals = (float(f"{edge:.{digits}g}") for digits in range(10))
    return next((value for value in decimals if abs(value - edge) <= SINGLE * edge), edge)


def count_voxels(mask: Mask) -> int:
    """Count voxels as a Python number; a NumPy number in a checkpoint would need NumPy to unpickle."""
    return int(np.count_nonzero(mask))


def as_masks(prediction: Any, reference: Any) -> tuple[Mask, Mask]:
    """Convert two arrays or tensors of 0 and 1 to boolean arrays; raise `InputError` for other values and shapes."""
    first, second = _as_mask(prediction, "prediction"), _as_mask(reference, "reference")
    if first.shape != second.shape:
        raise InputError(f"prediction: shape {list(first.shape)}; expected the reference's, {list(second.shape)}")
    return first, second


def _as_mask(values: Any, name: str) -> Mask:
    array = values.detach() if hasattr(values, "detach") else np.asarray(values)
    mask = array.bool() if hasattr(array, "bool") else array.astype(bool)
    if (array != mask).any():  # labels or probabilities
        raise InputError(f"{name}: expected a mask of 0 and 1")
    return np.asarray(mask.cpu() if hasattr(mask, "cpu") else mask)
