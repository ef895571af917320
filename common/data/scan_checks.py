"""Read a scan and check its header, grid and voxels; a failed check raises a `Problem`.

A case is a dictionary with "subject", "image" (a file per modality, None if missing) and, optionally, "label" (a file).
"""

import gzip
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from mmap import mmap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, shortened, show
from .regions import known_labels
from .volumes import ambiguity, open_volume

AFFINE_TOLERANCE = 1e-3  # mm
LABEL_TOLERANCE = 1e-5  # distance from a whole number, as a header's scale factor is in single precision
OUTLIER, FEW = 100, 1000  # multiple of the median; largest number of voxels that is not checked for outliers
SHOWN = 6  # label values in a message
Shaped = tuple[Sequence[int], NDArray[Any]]  # a volume's shape, and its affine [4, 4]
_warned = mmap(-1, 1)  # memory shared with DataLoader workers: whether the warning was printed


class Problem(InputError):  # noqa: N818, also that of a warning
    """A failed check: its name, the file, the problem and the expected value."""

    def __init__(self, check: str, file: str, problem: str, expected: str) -> None:
        super().__init__(file, problem, expected)
        self.check, self.file = check, file


def files_in(case: Mapping[str, Any]) -> list[str]:
    """Return the files that a case has: its images, then its label map."""
    return [str(file) for file in (*case["image"], case.get("label")) if isinstance(file, str | Path) and str(file)]


def read_scan(path: str | Path, dtype: type | None = None) -> tuple[Any, np.ndarray]:
    """Check and read a file with a single volume; return nibabel's image and the scaled voxels [x, y, z].

    Axes of length 1 after the third, which some tools append, are dropped. Raise `Problem` if the header or checksum
    fails a check.
    """
    file = str(path)
    try:
        scan = open_volume(path)
        shape = scan.shape
        while len(shape) > 3 and shape[-1] == 1:
            shape = shape[:-1]
        if len(shape) != 3 or min(shape) < 1:
            raise Problem("dimensions", file, f"shape {_shape(shape)}", "three dimensions")
        if scan.get_data_dtype().kind not in "biuf":
            raise Problem("type", file, f"voxels of type {scan.get_data_dtype()}", "real numbers")
        if not np.isfinite(scan.affine).all() or abs(np.linalg.det(scan.affine)) < 1e-9:
            raise Problem("affine", file, "an affine that cannot be inverted", "an affine from voxels to mm")
        # nibabel stops before the checksum of a compressed file and misses flipped bits
        whole = file.lower().endswith((".nii.gz", ".mgz"))
        stored = type(scan).from_bytes(gzip.decompress(Path(path).read_bytes())) if whole else scan
        with np.errstate(over="ignore"):  # the voxel checks refuse infinite values
            return scan, np.asanyarray(stored.dataobj, dtype).reshape(shape)
    except FileNotFoundError as error:
        raise Problem("missing", file, "no such file", "a file") from error
    except (Problem, MemoryError):
        raise
    except Exception as error:  # damaged files raise many exceptions
        first, *_ = str(error).strip().splitlines() or [type(error).__name__]
        raise Problem("unreadable", file, first, "a NIfTI or MGH file that can be read") from error


def check_grid(file: str, grid: Shaped, expected: Shaped, other: str) -> None:
    """Raise `Problem` if a file's grid (shape, affine) differs from `expected`, that of `other`, by over 0.001 mm."""
    (shape, affine), (edges, reference) = grid, expected
    cure = f"that of {other} (python -m scripts.prepare brings raw scans onto one grid)"
    if tuple(shape) != tuple(edges):
        raise Problem("shape", file, f"shape {_shape(shape)}", f"{_shape(edges)}, {cure}")
    if not (off := np.abs(np.subtract(affine, reference)).max()) <= AFFINE_TOLERANCE:  # also for NaN
        raise Problem("affine", file, f"affine differs by up to {off:.3g} mm", cure)


def orientation_problem(file: str, scan: Any) -> Problem | None:
    """Return a problem if a header leaves positions ambiguous (`ambiguity`)."""
    problem = ambiguity(scan)
    return Problem("orientation", file, problem, "one position of each voxel (the sform is used)") if problem else None


def warn_of_orientation(file: str, scan: Any) -> None:
    """Print `orientation_problem`, once in a run."""
    if not _warned[0] and (problem := orientation_problem(file, scan)):
        _warned[0] = 1
        show(f"warning: {problem}; later scans like it are not named", error=True)


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def check_image(file: str, volume: NDArray[Any]) -> None:
    """Raise `Problem` if an image has non-finite voxels, fewer than two different non-zero values, or an outlier."""
    if not np.isfinite(volume).all():
        count = f"{np.isnan(volume).sum()} voxels NaN, {np.isinf(volume).sum()} infinite"
        raise Problem("not_finite", file, count, "finite values in float32")
    values = volume[volume != 0]
    if not len(values) or values.min() == values.max():
        raise Problem("constant", file, "a single value in all voxels that are not 0", "a brain, not a mask of it")
    squares = np.square(values - values.mean(dtype=np.float64), dtype=np.float64)
    extreme = values[squares.argmax()]
    if len(values) > FEW and squares.max() > squares.sum() / 2 and abs(extreme) > OUTLIER * np.median(np.abs(values)):
        raise Problem("outlier", file, f"{extreme:.3g} in one voxel, which distorts the z-score of all", "intensities")


def check_copies(volumes: Mapping[str, NDArray[Any]]) -> None:
    """Raise `Problem` if two modalities have equal volumes."""
    for (name, volume), (other, copy) in combinations(volumes.items(), 2):
        if np.array_equal(volume, copy):
            raise Problem("copy", other, f"a copy of {name}", "a different image")


def labels_in(file: str, voxels: NDArray[Any], convention: str | None = None, may_fill: bool = False) -> frozenset[int]:
    """Return the labels in a label map.

    Raise `Problem` if a value is not a whole number, up to 0.00001, as headers may scale values. With a label
    convention, also if a label is unknown, or if 0 does not occur, unless `may_fill` (for predictions).
    """
    exact = np.unique(voxels[voxels != 0]).astype(np.float64)  # only the few non-zero voxels are sorted
    with np.errstate(invalid="ignore"):  # NaN and infinity are broken, too
        broken = exact[~(np.abs(exact - np.rint(exact)) <= LABEL_TOLERANCE)]
    if len(broken):
        raise Problem("label_values", file, f"label {_listed(broken)}", "whole numbers as labels")
    labels = frozenset(np.rint(exact).astype(int).tolist()) | (frozenset() if voxels.all() else {0})
    if convention is None:
        return labels
    if unknown := sorted(labels - known_labels(convention)):
        expected = f"labels {', '.join(map(str, sorted(known_labels(convention))))} ({convention})"
        raise Problem("label_values", file, f"label {_listed(unknown)}", expected)
    if 0 not in labels and not may_fill:
        raise Problem("constant", file, f"label {_listed(sorted(labels))} and no 0", "lesions, and 0 elsewhere")
    return labels


def _listed(values: Collection[float] | NDArray[Any]) -> str:
    return shortened([f"{value:g}" for value in values], SHOWN)
