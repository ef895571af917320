"""Brain extraction from T1 scans by deepbet (Fisch et al., Computers in Biology and Medicine 2024)."""

from functools import cache
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..data.preparation import border, is_brain
from ..errors import InputError
from .settings import DEEPBET
from .volumes import Volume


def brain_of(scan: Volume, device: str = "cpu") -> NDArray[np.bool_]:
    """Return a brain mask on the grid of an adult's raw T1; raise `InputError` if no brain is found."""
    try:
        _, image, _ = _deepbet(device).run(nibabel.Nifti1Image(scan.array.astype(np.float32), scan.affine))
    except (AssertionError, ValueError):  # deepbet 1.0.2 found no brain
        image = None
    mask = None if image is None else np.asarray(image.dataobj) > 0
    if mask is None or not mask.any():
        raise InputError(f"{DEEPBET}: no brain found; expected a T1 of a head")
    return mask


def stripped_brain(scan: Volume) -> NDArray[np.bool_] | None:
    """Return the brain mask, with holes filled, of a skull-stripped scan; None for a scan with skull."""
    inside = scan.array != 0
    return np.asarray(ndimage.binary_fill_holes(inside)) if is_brain(inside, scan.spacing.tolist()) else None


def zero_background(scan: Volume) -> Volume:
    """Set the background of a scan to 0 if a single value, such as -1000, fills most of the volume's border."""
    values, counts = np.unique(border(scan.array), return_counts=True)
    if counts.max() <= counts.sum() / 2:  # noise
        return scan
    return Volume(np.where(scan.array == values[counts.argmax()], 0, scan.array), scan.affine)


def mirrored_brain(scan: Volume, device: str = "cpu") -> NDArray[np.bool_]:
    """Return the brain mask of the left-right mirrored T1, by deepbet, on the T1's grid; empty if none is found."""
    try:
        return brain_of(Volume(scan.array, np.diag([-1.0, 1, 1, 1]) @ scan.affine), device)
    except InputError:
        return np.zeros(scan.array.shape, bool)


@cache
def _deepbet(device: str) -> Any:
    from deepbet.bet import BrainExtraction

    return BrainExtraction(no_gpu=device == "cpu")
