"""Brains: of T1 scans by deepbet (Fisch et al., Computers in Biology and Medicine 2024), and of the template.

The template is nilearn's ICBM152 2009a average brain at 1 mm, without skull, in MNI space.
"""

from functools import cache
from typing import Any

import cc3d
import nibabel
import numpy as np
from nilearn import datasets
from numpy.typing import NDArray
from scipy import ndimage
from scipy.stats import median_abs_deviation

from common.data.preparation import border, border_value, is_brain
from common.errors import InputError
from common.metrics.measures import dice
from scripts.prepare.registration import coarse_grid
from scripts.prepare.settings import DEEPBET
from scripts.prepare.volumes import Volume, mask_on

NOISE = 6.0  # robust standard deviations of the volume's border, from its median; what deviates more is foreground
FILLED = 0.9  # least Dice of the brain and the foreground of a scan without skull; at most 0.72 in 229 whole heads

CLOSING = 6  # mm; fills sulci up to 12 mm wide, as in the cohorts' brain masks


def brain_of(scan: Volume) -> NDArray[np.bool_]:
    """Return a brain mask on the grid of an adult's raw T1; raise `InputError` if no brain is found."""
    try:
        _, image, _ = _deepbet().run(nibabel.Nifti1Image(scan.array.astype(np.float32), scan.affine))
    except (AssertionError, ValueError):  # deepbet 1.0.2 found no brain
        image = None
    mask = None if image is None else np.asarray(image.dataobj) > 0
    if mask is None or not mask.any():
        raise InputError(f"{DEEPBET}: no brain found; expected a T1 of a head")
    return mask


def find_brain(scan: Volume) -> tuple[NDArray[np.bool_], bool]:
    """Return the brain mask of a raw scan, and whether it has no skull: then the mask is its foreground.

    With a background of 0, its size and border tell a scan without skull (`is_brain`), and deepbet does not run. The
    background may also be noise: then deepbet's brain must fill the foreground, the largest part above the noise.
    """
    edge = border(scan.array)
    noise = float(median_abs_deviation(edge, axis=None, scale="normal"))
    inside = np.abs(scan.array - np.median(edge)) > NOISE * noise
    if noise == 0 and is_brain(inside, scan.spacing.tolist()):
        return np.asarray(ndimage.binary_fill_holes(inside)), True
    foreground = np.asarray(ndimage.binary_fill_holes(cc3d.largest_k(inside.astype(np.uint8), k=1)))
    brain = brain_of(scan)
    is_stripped = dice(brain, foreground) > FILLED
    return (foreground if is_stripped else brain), is_stripped


def zero_background(scan: Volume) -> Volume:
    """Set the background of a scan to 0 if a single value, such as -1000, fills most of the volume's border."""
    background = border_value(scan.array)
    return scan if background is None else Volume(np.where(scan.array == background, 0, scan.array), scan.affine)


def mirrored_brain(scan: Volume) -> NDArray[np.bool_]:
    """Return the brain mask of the left-right mirrored T1, by deepbet, on the T1's grid; empty if none is found."""
    try:
        return brain_of(Volume(scan.array, np.diag([-1.0, 1, 1, 1]) @ scan.affine))
    except InputError:
        return np.zeros(scan.array.shape, bool)


@cache
def _deepbet() -> Any:
    from deepbet.bet import BrainExtraction

    return BrainExtraction(no_gpu=True)


@cache
def template_brain() -> Volume:
    """Return the T1 template in MNI space at 1 mm, without skull, values 0 to 1."""
    image = datasets.load_mni152_template(resolution=1)
    return Volume(np.asarray(image.dataobj, np.float32), image.affine)


@cache
def template_mask() -> Volume:
    """Return the template's brain mask (0 or 1), fluid included: nilearn's mask, closed and filled."""
    image = datasets.load_mni152_brain_mask(resolution=1)
    brain = np.pad(np.asarray(image.dataobj) > 0, CLOSING + 1)
    filled = ndimage.binary_fill_holes(ndimage.binary_closing(brain, iterations=CLOSING))
    inner = (slice(CLOSING + 1, -CLOSING - 1),) * 3
    return Volume(filled[inner].astype(np.uint8), image.affine)


def template_overlap(mask: Volume, affine: NDArray[np.float64] | None = None) -> float:
    """Return the Dice between a brain mask and the brain of the MNI template, on a grid of 2 mm.

    `affine` maps mm in MNI space to mm of the mask (default: identity).
    """
    grid = coarse_grid(template_brain())
    return dice(mask_on(mask, grid, affine), mask_on(template_mask(), grid))
