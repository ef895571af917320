"""Describe cohorts: files, grid and synthetic scans; `common.data.regions` has their regions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from scripts.layouts.reading import FileLayout


@dataclass(frozen=True)
class Space:
    """The grid and orientation of a cohort's scans."""

    description: str  # for people, such as in a datalist
    shape: tuple[int, int, int]  # number of voxels along each axis, at 1 mm
    flip: tuple[int, int, int]  # sign of each voxel axis in RAS+: 1 or -1
    origin: tuple[float, float, float]  # position of the first voxel, mm
    mni_origin: tuple[float, float, float] = (0, 0, 0)  # position of the origin of MNI space, mm
    dof: int = 12  # degrees of freedom of the registration: 6 (rigid) or 12 (affine)
    code: int = 4  # of sform and qform in NIfTI headers: 2 (aligned) or 4 (MNI)
    brain: str = "deepbet"  # brain extraction that makes raw scans like the cohort's, or `none` for whole heads

    def affine(self, spacing: float) -> NDArray[np.float64]:
        """Return the affine [4, 4] from voxels to mm; `spacing` is the edge of a voxel, mm."""
        affine = np.diag([*(spacing * np.array(self.flip, float)), 1.0])
        affine[:3, 3] = self.origin
        return affine

    def edges(self, spacing: float) -> tuple[int, int, int]:
        """Return the number of voxels along each axis; `spacing` is the edge of a voxel, mm."""
        x, y, z = (ceil(size / spacing) for size in self.shape)
        return x, y, z

    def to_mni(self) -> NDArray[np.float64]:
        """Return the matrix [4, 4] from this space to MNI space, mm."""
        matrix = np.eye(4)
        matrix[:3, 3] = -np.array(self.mni_origin)
        return matrix


@dataclass(frozen=True)
class Cohort:
    """A cohort, such as BraTS: all facts about it that this software needs."""

    layouts: tuple[FileLayout, ...]  # of the cohort's releases; synthetic scans have the first
    about: str  # help of `python -m scripts.datalists NAME`: a summary line and paragraphs
    space: Space
    phantom: Callable[[int], Mapping[str, str]]  # fields of the first layout by the index of a synthetic person
    head: str  # pathology of the synthetic heads, a key of `scripts.phantoms.anatomy.HEADS`
    dtype: str = "int16"  # voxel type of images on disk
    reference: str = "T1"  # modality whose series defines the DICOM grid by default

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities in channel order."""
        return tuple(self.layouts[0].modalities)

    @property
    def convention(self) -> str | None:
        """The bundle's label convention, a key of `common.data.regions.CONVENTIONS`; None without labels."""
        return self.layouts[0].convention
