"""The card of a cohort: all that the software knows of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .layouts.files import FileLayout

GREEN, YELLOW, RED, BLUE, VIOLET, BROWN = "#4dac6d", "#e9c46a", "#d1495b", "#4c86c6", "#9d6bb8", "#b5835a"


class Region(NamedTuple):
    """The union of some label values, and its colour in pictures (#rrggbb)."""

    labels: frozenset[int]
    colour: str


class Segment(NamedTuple):
    """A segment of a DICOM segmentation.

    Attributes:
        values: label values, one for each label convention.
        label: name in viewers.
        code: SNOMED CT code.
        meaning: meaning of the code.
        region: innermost region that contains it.
        colour: #rrggbb, that of the region.
    """

    values: tuple[int, ...]
    label: str
    code: str
    meaning: str
    region: str
    colour: str


@dataclass(frozen=True)
class Space:
    """The space of a cohort's scans.

    Attributes:
        description: for records.
        shape: voxels at 1 mm.
        flip: direction of each voxel axis in RAS+: 1 or -1.
        origin: position of the first voxel, mm.
        mni_origin: position of MNI space's origin, mm.
        dof: degrees of freedom of the registration: 6 (rigid) or 12 (affine).
        code: of the space in NIfTI headers: 2 aligned, 4 MNI.
        brain: extraction of the brain from raw scans, `deepbet`, or `none`, as heads are whole.
    """

    description: str
    shape: tuple[int, int, int]
    flip: tuple[int, int, int]
    origin: tuple[float, float, float]
    mni_origin: tuple[float, float, float] = (0, 0, 0)
    dof: int = 12
    code: int = 4
    brain: str = "deepbet"

    def affine(self, spacing: float) -> NDArray[np.float64]:
        """Voxel to world space [4, 4], mm, for voxels of this edge in mm."""
        affine = np.diag([*(spacing * np.array(self.flip, float)), 1.0])
        affine[:3, 3] = self.origin
        return affine

    def edges(self, spacing: float) -> tuple[int, int, int]:
        """The number of voxels along each axis, for voxels of this edge in mm."""
        x, y, z = (ceil(size / spacing) for size in self.shape)
        return x, y, z

    def to_mni(self) -> NDArray[np.float64]:
        """The matrix [4, 4] from this space to MNI space, mm."""
        matrix = np.eye(4)
        matrix[:3, 3] = -np.array(self.mni_origin)
        return matrix


@dataclass(frozen=True)
class Cohort:
    """A cohort.

    Attributes:
        layouts: layouts of its releases; the first one is that of the embedded cohort.
        about: help of `python -m scripts.datalists NAME`: its purpose in a line, and paragraphs.
        root: folder of the cohort, in words.
        space: space of its scans.
        phantom: index of a computed person -> values of the fields of the first layout, and `person`.
        head: kind of the computed heads, a key of `scripts.phantoms.layouts.HEADS`.
        conventions: label conventions, that of the bundle first: regions in channel order; overlapping ones are nested,
            0 is background.
        contrasts: modality -> the one that its computed scans look like, for modalities without a sequence in
            `scripts.phantoms.mr_signal`.
        protocol: scoring protocol.
        dtype: voxels of images on disk.
        outputs: the output channels of a bundle that segments it, in metadata.json; they tell its DICOM segments.
        segments: segments in DICOM, numbered from 1 in this order.
        reference: modality whose series gives the grid in DICOM by default.
    """

    layouts: tuple[FileLayout, ...]
    about: str
    root: str
    space: Space
    phantom: Callable[[int], Mapping[str, str]]
    head: str
    conventions: Mapping[str, Mapping[str, Region]] = field(default_factory=dict)
    contrasts: Mapping[str, str] = field(default_factory=dict)
    protocol: str = "dice"
    dtype: str = "int16"
    outputs: frozenset[str] = frozenset()
    segments: tuple[Segment, ...] = ()
    reference: str = "T1"

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities in channel order."""
        return tuple(self.layouts[0].modalities)
