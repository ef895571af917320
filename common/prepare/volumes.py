"""Volumes (arrays with an affine): reading, checks, and conversion to SimpleITK.

NIfTI uses RAS+ and SimpleITK LPS+; only this module converts between the two.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813, the field's name for it
from nibabel.affines import from_matvec, voxel_sizes
from numpy.typing import NDArray

from ..data.scan_checks import image_problem, raise_problem, read_scan
from ..data.volumes import canonical, is_assumed
from ..errors import InputError

UNITS = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])  # between RAS+ and LPS+
SHEAR = 0.01  # largest accepted cosine between two axes of a scan; scanners round directions to about 0.001
EDGES = (0.2, 10.0)  # mm; range of accepted voxel edges
NARROWEST, WIDEST = 50.0, 1000.0  # mm; smallest and largest accepted field of view along an axis
SCALES = (0.2, 5.0)  # range of accepted scales of a transform; adult heads differ by a factor below 2
FEWEST = 4  # least number of voxels along an axis
FILLED = 0.25  # the head's end slices have more than this fraction of the fullest slice's non-background voxels
# mm; steps for rounding affines in a frame, coarser than in headers. Powers of two, because steps of 1e-5 leave common
# edges, such as 220 mm / 256, halfway between two steps, where a header's rounding decides
FINEST = 2.0 ** np.array([-17, -17, -17, -10])
ORDINALS = ("first", "second", "third")


@dataclass(frozen=True)
class Grid:
    """The voxel grid of a volume: `shape` (x, y, z), and `affine` [4, 4] from voxels to mm in RAS+."""

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    @property
    def spacing(self) -> NDArray[np.float64]:
        """Edges of a voxel in mm."""
        return voxel_sizes(self.affine)

    def is_same(self, other: "Grid") -> bool:
        """Return whether two grids are equal within 0.001 mm."""
        return self.shape == other.shape and np.allclose(self.affine, other.affine, rtol=0, atol=1e-3)


@dataclass(frozen=True)
class Volume:
    """An array [x, y, z] and its affine from voxels to mm in RAS+."""

    array: NDArray[Any]
    affine: NDArray[np.float64]

    @property
    def grid(self) -> Grid:
        """The volume's voxel grid."""
        x, y, z = self.array.shape
        return Grid((x, y, z), self.affine)

    @property
    def spacing(self) -> NDArray[np.float64]:
        """Edges of a voxel in mm."""
        return self.grid.spacing

    @property
    def voxel_volume(self) -> float:
        """Volume of a voxel in mL."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000


def read_volume(path: Path) -> Volume:
    """Read a raw scan as float32.

    Refuse files that are missing, damaged, not 3D, empty, sheared, without orientation, or unlike a head (`check_scan`,
    `check_gaps`).
    """
    scan, voxels = read_scan(path, np.float32)
    if is_assumed(scan):
        raise InputError(f"{path}: sform_code and qform_code are 0; expected a header that tells left from right")
    volume = Volume(voxels, np.asarray(scan.affine, np.float64))
    check_scan(volume, str(path))
    check_gaps(volume.array, str(path))
    return volume


def check_scan(volume: Volume, name: str) -> None:
    """Check that a volume can be a head scan: plausible voxels and field of view, no shear, finite, varying values."""
    check_grid(volume.grid, name)
    view = volume.spacing * volume.array.shape
    if view.min() < NARROWEST:
        size = " x ".join(f"{edge:.0f}" for edge in view)
        raise InputError(f"{name}: a field of view of {size} mm; expected at least {NARROWEST:g} mm along each axis")
    raise_problem(image_problem(name, volume.array))


def check_gaps(array: NDArray[Any], name: str) -> None:
    """Refuse a scan with an empty (constant) slice between slices of the head."""
    for axis, ordinal in enumerate(ORDINALS):
        slices = np.moveaxis(array, axis, 0)
        is_empty = np.ptp(slices, axis=(1, 2)) == 0
        for value in np.unique(slices[is_empty, 0, 0]):  # the background value, 0 or not
            filled = np.count_nonzero(slices != value, axis=(1, 2))
            head = np.flatnonzero(filled > FILLED * filled.max())
            if len(head) and not (within := filled[head[0] : head[-1]]).all():
                where = f"slice {head[0] + within.argmin() + 1} of {len(filled)} along the {ordinal} axis"
                raise InputError(f"{name}: {where} is empty; expected no empty slice within the head")


def check_grid(grid: Grid, name: str) -> None:
    """Check that a head scan can have this grid; see `check_scan`."""
    if min(grid.shape) < FEWEST:
        shape = " x ".join(map(str, grid.shape))
        raise InputError(f"{name}: {shape} voxels; expected at least {FEWEST} along each axis")
    if grid.spacing.min() < EDGES[0] or grid.spacing.max() > EDGES[1]:
        size = " x ".join(f"{edge:.3g}" for edge in grid.spacing)
        raise InputError(f"{name}: voxels of {size} mm; expected edges from {EDGES[0]:g} to {EDGES[1]:g} mm")
    if (widest := (grid.spacing * grid.shape).max()) > WIDEST:
        raise InputError(f"{name}: a field of view of {widest:,.0f} mm; expected at most {WIDEST:g} mm")
    axes = grid.affine[:3, :3] / grid.spacing
    cosine = np.abs(axes.T @ axes - np.eye(3)).max()
    if cosine > SHEAR:
        raise InputError(f"{name}: sheared axes (cosine {cosine:.2f}); expected right angles")


def check_transform(matrix: NDArray[np.float64], name: str) -> None:
    """Check that a matrix [4, 4] can map a template to a head: plausible scales, no reflection."""
    linear = matrix[:3, :3]
    scales = np.linalg.svd(linear, compute_uv=False) * [1, 1, np.sign(np.linalg.det(linear))]
    if not (scales[2] >= SCALES[0] and scales[0] <= SCALES[1]):
        factors = " x ".join(f"{scale:.4g}" for scale in scales)
        raise InputError(f"{name} scales by {factors}; expected {SCALES[0]:g} to {SCALES[1]:g} along each axis")


def upright(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the nearest affine without shear, because ITK and ANTs images cannot have shear."""
    spacing = voxel_sizes(affine)
    left, _, right = np.linalg.svd(affine[:3, :3] / spacing)
    result = affine.copy()
    result[:3, :3] = left @ right * spacing
    return result


def frame_of(scan: Volume) -> NDArray[np.float64]:
    """Return the rigid matrix from a scan's frame to mm of its header, RAS+.

    The frame has the scan's axes, in the order and directions nearest to RAS, and the origin at the scan's centre. A
    scan's position in the frame stays the same if stored axes are permuted or flipped, or the header is rotated.
    """
    ras = Volume(*canonical(scan.array, scan.affine))
    middle = ras.spacing * (np.array(ras.array.shape) - 1) / 2
    return np.asarray(upright(ras.affine) @ np.linalg.inv(from_matvec(np.diag(ras.spacing), -middle)))


def in_frame(scan: Volume, frame: NDArray[np.float64]) -> Volume:
    """Express a scan in a frame from `frame_of`, with axes nearest to RAS; voxels are reordered, not resampled."""
    array, affine = canonical(scan.array, scan.affine)
    return Volume(array, np.round(np.linalg.inv(frame) @ affine / FINEST) * FINEST)


def to_image(volume: Volume) -> sitk.Image:
    """Convert a volume to a SimpleITK image with its `upright` affine."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.array.T))
    spacing, lps = volume.grid.spacing, FLIP @ upright(volume.affine)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


def to_transform(matrix: NDArray[np.float64]) -> sitk.AffineTransform:
    """Return the SimpleITK transform (LPS+) of a matrix [4, 4] that maps points in RAS+, in mm."""
    lps = FLIP @ matrix @ FLIP
    return sitk.AffineTransform(lps[:3, :3].ravel().tolist(), lps[:3, 3].tolist())


def matrix_of(transform: Callable[[tuple[float, float, float]], Sequence[float]]) -> NDArray[np.float64]:
    """Convert an affine transform of points in LPS+ to a matrix [4, 4] between points in RAS+, mm."""
    start = np.array(transform((0.0, 0.0, 0.0)))
    linear = np.column_stack([np.array(transform(unit)) - start for unit in UNITS])
    return np.asarray(FLIP @ from_matvec(linear, start) @ FLIP)
