"""Read and check volumes (arrays with an affine), scans and label maps."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.data import volumes
from common.errors import InputError

SHEAR = 0.01  # largest accepted cosine between two axes of a scan; scanners round directions to about 0.001
EDGES = (0.2, 10.0)  # mm; range of accepted voxel edges
NARROWEST = 50.0  # mm; smallest accepted field of view along an axis
FILLED = 0.25  # the head's end slices have more than this fraction of the fullest slice's non-background voxels
HIGHEST, MOST = 65535, 64  # largest label, and most labels of a map; a file with more is probably an image


@dataclass(frozen=True)
class Grid:
    """The voxel grid of a volume: `shape` (x, y, z), and `affine` [4, 4] from voxels to mm in RAS+."""

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    @property
    def spacing(self) -> NDArray[np.float64]:
        """Edges of a voxel in mm."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

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


def read_volume(path: Path) -> Volume:
    """Read a raw scan as float32; refuse one that is damaged, without orientation, or unlike a head."""
    scan, voxels = volumes.read_scan(path, np.float32)
    if assumed := scan.extra["assumed"]:
        raise InputError(f"{path}: {assumed}; expected a header that states it")
    volume = Volume(voxels, np.asarray(scan.affine, np.float64))
    check_scan(volume, str(path))
    check_gaps(volume.array, str(path))
    return volume


def read_labels(path: Path, expected: Grid | None = None, of: str = "the prepared scans") -> Volume:
    """Read a label map as uint8 or uint16; refuse an image, and a grid other than `expected`, that of `of`."""
    image, voxels = volumes.read_scan(path)
    if expected is not None:
        volumes.check_grid(str(path), (voxels.shape, image.affine), (expected.shape, expected.affine), of)
    labels = volumes.labels_in(str(path), voxels)
    if min(labels) < 0 or max(labels) > HIGHEST or len(labels) > MOST:
        raise InputError(f"{path}: {len(labels)} labels up to {max(labels)}; expected up to {MOST}, 0 to {HIGHEST}")
    return Volume(np.rint(voxels).astype(np.uint8 if max(labels) < 256 else np.uint16), np.asarray(image.affine))


def check_scan(volume: Volume, name: str) -> None:
    """Check that a volume can be a head scan: plausible voxels and field of view, no shear, finite, varying values."""
    check_grid(volume.grid, name)
    view = volume.spacing * volume.array.shape
    if view.min() < NARROWEST:
        raise InputError(f"{name}: a field of view of {_size(view)} mm; expected at least {NARROWEST:g} mm")
    volumes.check_image(name, volume.array)


def check_gaps(array: NDArray[Any], name: str) -> None:
    """Refuse a scan with an empty (constant) slice between slices of the head."""
    for axis, ordinal in enumerate(("first", "second", "third")):
        slices = np.moveaxis(array, axis, 0)
        is_empty = np.ptp(slices, axis=(1, 2)) == 0
        for value in np.unique(slices[is_empty, 0, 0]):  # the background value, 0 or not
            filled = np.count_nonzero(slices != value, axis=(1, 2))
            head = np.flatnonzero(filled > FILLED * filled.max())
            if len(head) and not (within := filled[head[0] : head[-1]]).all():
                where = f"slice {head[0] + within.argmin() + 1} of {len(filled)} along the {ordinal} axis"
                raise InputError(f"{name}: {where} is empty; expected no empty slice within the head")


def check_grid(grid: Grid, name: str) -> None:
    """Raise `InputError` unless a head scan can have this grid: voxels of plausible size, no shear."""
    if grid.spacing.min() < EDGES[0] or grid.spacing.max() > EDGES[1]:
        raise InputError(f"{name}: voxels of {_size(grid.spacing)} mm; expected {EDGES[0]:g} to {EDGES[1]:g} mm")
    axes = grid.affine[:3, :3] / grid.spacing
    cosine = np.abs(axes.T @ axes - np.eye(3)).max()
    if cosine > SHEAR:
        raise InputError(f"{name}: sheared axes (cosine {cosine:.2f}); expected right angles")


def _size(edges: Iterable[float]) -> str:
    return " x ".join(f"{edge:.3g}" for edge in edges)
