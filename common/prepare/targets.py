"""The target spaces: their grids and the common head template.

The template is the ICBM152 2009a average brain at 1 mm, without skull, from nilearn. Registration uses its coordinates,
MNI space; a target adds a grid and the position of MNI space on it.
"""

from dataclasses import dataclass
from functools import cache
from math import ceil

import numpy as np
from nilearn import datasets
from numpy.typing import NDArray
from scipy import ndimage

from .volumes import Grid, Volume

MARGIN = 4  # mm
CLOSING = 6  # mm; fills sulci up to twice as wide, as in the cohorts' brain masks


@dataclass(frozen=True)
class Target:
    """A target space."""

    description: str  # for records
    shape: tuple[int, int, int]  # voxels at 1 mm
    flip: tuple[int, int, int]  # direction of each voxel axis in RAS+: 1 or -1
    origin: tuple[float, float, float]  # position of the first voxel, mm
    mni_origin: tuple[float, float, float]  # position of MNI space's origin, mm
    dof: int  # degrees of freedom of the registration: 6 (rigid) or 12 (affine)
    code: int  # of the space in NIfTI headers: 2 aligned, 4 MNI
    modalities: tuple[str, ...]  # of the cohort, in channel order
    brain: str  # how the cohort's brains are found, or none

    def grid(self, spacing: float) -> Grid:
        """The grid with this voxel edge, mm, over the same field of view."""
        affine = np.diag([*(spacing * np.array(self.flip, float)), 1.0])
        affine[:3, 3] = np.array(self.origin) + (spacing - 1) / 2 * np.array(self.flip)
        x, y, z = (ceil(size / spacing) for size in self.shape)
        return Grid((x, y, z), affine)

    def to_mni(self) -> NDArray[np.float64]:
        """The matrix [4, 4] from this space to MNI space, mm."""
        matrix = np.eye(4)
        matrix[:3, 3] = -np.array(self.mni_origin)
        return matrix


TARGETS = {  # by the cohort that lies there
    "ukb": Target(
        "MNI152 (ICBM152 2009a), the field of view of FSL and UK Biobank",
        shape=(182, 218, 182),
        flip=(-1, 1, 1),
        origin=(90, -126, -72),
        mni_origin=(0, 0, 0),
        dof=12,
        code=4,
        modalities=("T1", "FLAIR"),
        brain="deepbet",
    ),
    "brats": Target(
        "BraTS's space (SRI24's) with the MNI152 template placed in it; the SRI24 atlas itself was not used",
        shape=(240, 240, 155),
        flip=(-1, -1, 1),
        origin=(0, 239, 0),
        mni_origin=(-120, 137, 72),
        dof=6,
        code=2,
        modalities=("FLAIR", "T1ce", "T1", "T2"),
        brain="deepbet",
    ),
    "atlas": Target(
        "MNI152 (ICBM152 2009a), the field of view of ATLAS v2.0",
        shape=(197, 233, 189),
        flip=(1, 1, 1),
        origin=(-98, -134, -72),
        mni_origin=(0, 0, 0),
        dof=12,
        code=4,
        modalities=("T1",),
        brain="none",
    ),
}


@cache
def template_brain() -> Volume:
    """The T1 template in MNI space at 1 mm, without skull, 0 to 1."""
    image = datasets.load_mni152_template(resolution=1)
    return Volume(np.asarray(image.dataobj, np.float32), image.affine)


@cache
def template_mask() -> Volume:
    """The template's brain with its fluid, 0 or 1: nilearn's mask, closed and filled."""
    image = datasets.load_mni152_brain_mask(resolution=1)
    brain = np.pad(np.asarray(image.dataobj) > 0, CLOSING + 1)
    filled = ndimage.binary_fill_holes(ndimage.binary_closing(brain, iterations=CLOSING))
    inner = (slice(CLOSING + 1, -CLOSING - 1),) * 3
    return Volume(filled[inner].astype(np.uint8), image.affine)


@cache
def near_brain() -> NDArray[np.bool_]:
    """The template's brain and a margin of 4 mm: the region for registration, as the template has no skull."""
    return np.asarray(ndimage.binary_dilation(template_mask().array > 0, iterations=MARGIN))
