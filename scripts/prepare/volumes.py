"""Volumes, arrays with an affine: read, check and resample scans and label maps."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.data import volumes
from common.errors import InputError
from common.files import digest

SHEAR = 0.01  # largest accepted cosine between two axes of a scan; scanners round directions to about 0.001
EDGES = (0.2, 10.0)  # mm; range of accepted voxel edges
NARROWEST = 50.0  # mm; smallest accepted field of view along an axis
FILLED = 0.25  # the head's end slices have more than this fraction of the fullest slice's non-background voxels
HIGHEST, MOST = 65535, 64  # largest label, and most labels of a map; a file with more is probably an image
FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])  # between RAS+, as in NIfTI, and LPS+, as in ITK and DICOM
# mm; steps for rounding affines in a frame, coarser than in headers. Powers of two, because steps of 1e-5 leave common
# edges, such as 220 mm / 256, halfway between two steps, where a header's rounding decides
FINEST = 2.0 ** np.array([-17, -17, -17, -10])


@dataclass(frozen=True)
class Grid:
    """The voxel grid of a volume: `shape` (x, y, z), and `affine` [4, 4] from voxels to mm in RAS+."""

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    @property
    def spacing(self) -> NDArray[np.float64]:
        """Edges of a voxel in mm."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Grid":
        """Return the grid of a `record`."""
        x, y, z = record["shape"]
        return cls((x, y, z), np.array(record["affine"], np.float64))

    def record(self) -> dict[str, Any]:
        """Return shape and affine as JSON."""
        return {"shape": list(self.shape), "affine": self.affine.tolist()}

    def is_same(self, other: "Grid") -> bool:
        """Return whether two grids are equal within `AFFINE_TOLERANCE`."""
        return self.shape == other.shape and np.allclose(self.affine, other.affine, 0, volumes.AFFINE_TOLERANCE)


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


def canonical(voxels: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reorient voxels [x, y, z] and affine to the orientation nearest to RAS, without resampling."""
    from nibabel.orientations import apply_orientation, inv_ornt_aff  # slow to import

    axes = volumes.axes_of(affine)
    return apply_orientation(voxels, axes), affine @ inv_ornt_aff(axes, voxels.shape[:3])


def is_label_map(path: Path) -> bool:
    """Whether a file is marked as a label map, as by `write_volume`; False for a damaged file."""
    try:
        return bool(volumes.open_volume(path).header.get_intent()[0] == "label")
    except Exception:  # damaged files raise many exceptions
        return False


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


def source_record(file: Path, grid: Grid) -> dict[str, Any]:
    """Return a scan's path, grid and digest, and the header bytes that state its grid, in hexadecimal digits."""
    forms = volumes.forms_of(volumes.open_volume(file)).hex()
    return {"file": str(file.absolute()), "forms": forms, **grid.record(), "sha256": digest(file)}


def orientation_remarks(*files: Path) -> list[str]:
    """Return a line for each file with an ambiguous orientation in its header."""
    problems = [volumes.orientation_problem(str(file), volumes.open_volume(file)) for file in files]
    return [str(problem) for problem in problems if problem]


def check_scan(volume: Volume, name: str) -> None:
    """Check that a volume can be a head scan: plausible voxels and field of view, no shear, finite, varying values."""
    check_head_grid(volume.grid, name)
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


def check_head_grid(grid: Grid, name: str) -> None:
    """Raise `InputError` unless a head scan can have this grid: voxels of plausible size, no shear."""
    if grid.spacing.min() < EDGES[0] or grid.spacing.max() > EDGES[1]:
        raise InputError(f"{name}: voxels of {_size(grid.spacing)} mm; expected {EDGES[0]:g} to {EDGES[1]:g} mm")
    axes = grid.affine[:3, :3] / grid.spacing
    cosine = np.abs(axes.T @ axes - np.eye(3)).max()
    if cosine > SHEAR:
        raise InputError(f"{name}: sheared axes (cosine {cosine:.2f}); expected right angles")


def _size(edges: Iterable[float]) -> str:
    return " x ".join(f"{edge:.3g}" for edge in edges)


def resample(volume: Volume, grid: Grid, matrix: NDArray[np.float64] | None = None) -> Volume:
    """Resample a volume linearly to a grid; voxels outside the volume's field of view become 0.

    `matrix` [4, 4] maps mm of the grid to mm of the volume, RAS+ (default: identity). Without a matrix, a volume that
    is already on the grid stays unchanged.
    """
    import SimpleITK as sitk  # noqa: N813, the field's name for it; late import: slow

    if matrix is None and volume.grid.is_same(grid):
        return Volume(volume.array, grid.affine)
    onto = np.linalg.inv(volume.affine) @ (np.eye(4) if matrix is None else matrix) @ grid.affine
    image = sitk.Resample(
        sitk.GetImageFromArray(np.ascontiguousarray(volume.array.T, np.float32)),
        sitk.Image([int(size) for size in grid.shape], sitk.sitkUInt8),
        sitk.AffineTransform(onto[:3, :3].ravel().tolist(), onto[:3, 3].tolist()),  # in voxels: ITK images lack shear
        sitk.sitkLinear,
        0.0,
    )
    return Volume(sitk.GetArrayFromImage(image).T, grid.affine)


def mask_on(mask: Volume, grid: Grid, matrix: NDArray[np.float64] | None = None) -> NDArray[np.bool_]:
    """Resample a mask to a grid; see `resample`."""
    return resample(mask, grid, matrix).array > 0.5


def field_of_view(volume: Volume, grid: Grid, matrix: NDArray[np.float64] | None = None) -> NDArray[np.bool_]:
    """Return a mask of a grid's voxels inside a volume's field of view; see `resample`."""
    return mask_on(Volume(np.ones_like(volume.array), volume.affine), grid, matrix)


def labels_on(labels: Volume, grid: Grid, matrix: NDArray[np.float64]) -> Volume:
    """Resample a label map to a grid: each voxel gets the label with the largest share, on ties the smaller label.

    A label's share is the mean of the label's mask over the voxel, interpolated linearly at points about as far apart
    as the voxels of `labels`. `matrix` [4, 4] maps mm of the grid to mm of the labels, RAS+.
    """
    step = labels.grid.spacing.max()
    counts = np.maximum(1, np.ceil(grid.spacing / step - 0.25)).astype(int)
    points = [(np.array(index) + 0.5) / counts - 0.5 for index in np.ndindex(*counts)]  # in voxels, from the centre
    best = np.zeros(grid.shape, np.float32)
    result = np.zeros(grid.shape, labels.array.dtype)
    for value in sorted({0, *np.unique(labels.array).tolist()}):
        mask = Volume((labels.array == value).astype(np.float32), labels.affine)
        share = np.zeros(grid.shape, np.float32)
        for point in points:
            affine = grid.affine.copy()
            affine[:3, 3] += affine[:3, :3] @ point
            share += resample(mask, Grid(grid.shape, affine), matrix).array
        result[share > best + 1e-4] = value
        best = np.maximum(best, share)
    return Volume(result, grid.affine)


def upright(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the nearest affine without shear, because ITK and ANTs images cannot have shear."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    left, _, right = np.linalg.svd(affine[:3, :3] / spacing)
    result = affine.copy()
    result[:3, :3] = left @ right * spacing
    return result


def frame_of(scan: Volume) -> NDArray[np.float64]:
    """Return the rigid matrix to mm of a scan's header, RAS+, from a frame defined by the scan's axes and centre.

    The frame has the scan's axes, in the order and directions nearest to RAS, and the origin at the scan's centre. A
    scan's position in the frame stays the same if stored axes are permuted or flipped, or the header is rotated.
    """
    ras = Volume(*canonical(scan.array, scan.affine))
    centred = np.diag([*ras.spacing, 1.0])
    centred[:3, 3] = -ras.spacing * (np.array(ras.array.shape) - 1) / 2
    return np.asarray(upright(ras.affine) @ np.linalg.inv(centred))


def in_frame(scan: Volume, frame: NDArray[np.float64]) -> Volume:
    """Express a scan in a frame from `frame_of`, with axes nearest to RAS; voxels are reordered, not resampled."""
    array, affine = canonical(scan.array, scan.affine)
    return Volume(array, np.round(np.linalg.inv(frame) @ affine / FINEST) * FINEST)
