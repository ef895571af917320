"""The template for registration: nilearn's ICBM152 2009a average brain at 1 mm, without skull, in MNI space.

A cohort's space adds a grid and the position of MNI space.
"""

from functools import cache

import numpy as np
from nilearn import datasets
from scipy import ndimage

from scripts.prepare.volumes import Volume

MARGIN = 4  # mm
CLOSING = 6  # mm; fills sulci up to 12 mm wide, as in the cohorts' brain masks


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


@cache
def near_brain() -> Volume:
    """Return the mask for registration: the template's brain with a margin of 4 mm, as the template has no skull."""
    brain = template_mask()
    return Volume(ndimage.binary_dilation(brain.array, iterations=MARGIN), brain.affine)
