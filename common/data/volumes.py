"""Open, check, read and write volumes, NIfTI and MGH files; a failed check raises a `Problem`.

Only this module reads headers. Functions import nibabel, which takes most of a second.
"""

import gzip
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from itertools import combinations, permutations, product
from mmap import mmap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, shortened, show
from ..files import atomic_write
from .regions import known_labels

MADE_UP = b"made-up subject"  # `descrip` in the header of a synthetic subject's file
ASSUMED = 2  # form code of an assumed affine in results: aligned, not scanner space
FIELDS = ("xyzt_units", "sform_code", "qform_code", *(f"quatern_{axis}" for axis in "bcd"))  # of the grid, with pixdim
FIELDS += tuple(f"{field}_{axis}" for field in ("qoffset", "srow") for axis in "xyz")
UNITS = {1: "m", 3: "micrometres"}  # refused NIfTI unit codes; unknown codes count as mm
GOOD_RAS = slice(28, 30)  # bytes of an MGH header's goodRASFlag
TIED = 1e-3  # difference of the sums of three cosines below which two orders of axes fit equally
ROTATION = 5e-5  # tolerance of a qform's direction cosines; ITK also accepts such axes as orthogonal
AFFINE_TOLERANCE = 1e-3  # mm
LABEL_TOLERANCE = 1e-5  # distance from a whole number, as a header's scale factor is in single precision
OUTLIER, FEW = 100, 1000  # multiple of the median; largest number of voxels that is not checked for outliers
_warned = mmap(-1, 1)  # memory shared with DataLoader workers: whether the warning was printed


class Problem(InputError):  # noqa: N818, also that of a warning
    """A failed check: its name, the file, the problem and the expected value."""

    def __init__(self, check: str, file: str, problem: str, expected: str) -> None:
        super().__init__(file, problem, expected)
        self.check, self.file = check, file


def open_volume(path: str | Path) -> Any:
    """Open a volume without reading voxels: `dataobj` reads them on demand, `affine` maps voxels to mm in RAS+.

    A NIfTI file's affine is the sform or, if its code is 0, the qform. Without both, `extra["assumed"]` says so, and
    voxels are centred on 0 mm in the order LAS. A damaged file may raise any exception.
    """
    import nibabel

    if not Path(path).is_file():
        raise FileNotFoundError("no such file")
    scan: Any = nibabel.load(path)
    if not isinstance(scan, nibabel.Nifti1Pair | nibabel.MGHImage):
        raise TypeError(f"of type {type(scan).__name__}")
    scan.extra["assumed"] = ""
    with scan.file_map.get("header", scan.file_map["image"]).get_prepare_fileobj("rb") as stream:
        if isinstance(scan, nibabel.MGHImage):
            if not any(stream.read(GOOD_RAS.stop)[GOOD_RAS]):  # nibabel then replaces the voxel size, too
                raise ValueError("goodRASFlag is 0, so its axes and voxel size are unknown")
            return scan
        stored = scan.extra["stored"] = type(scan.header).from_fileobj(stream, check=False)  # nibabel replaces values
    if not stored["sform_code"] and 0 in stored["pixdim"][1:4]:
        raise ValueError("pixdim 0, so the size of its voxels is unknown")
    if (unit := int(stored["xyzt_units"]) & 7) in UNITS:
        raise ValueError(f"lengths in {UNITS[unit]}, not mm")
    if not scan.header["sform_code"] and not scan.header["qform_code"]:
        scan.extra["assumed"] = "sform_code and qform_code are 0, so left and right are a guess"
    return scan


def read_scan(path: str | Path, dtype: type | None = None) -> tuple[Any, np.ndarray]:
    """Read a file with a single volume, and check header and checksum; return nibabel's image and voxels [x, y, z].

    Axes of length 1 after the third, which some tools append, are dropped.
    """
    file = str(path)
    try:
        scan = open_volume(path)
        shape = scan.shape
        while len(shape) > 3 and shape[-1] == 1:
            shape = shape[:-1]
        if len(shape) != 3 or min(shape) < 1:
            raise Problem("dimensions", file, f"shape {_text(shape)}", "three dimensions")
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


def check_grid(file: str, grid: tuple[Any, Any], expected: tuple[Any, Any], other: str) -> None:
    """Raise `Problem` if a file's grid (shape, affine) differs from `expected`, that of `other`, by over 0.001 mm."""
    (shape, affine), (edges, reference) = grid, expected
    cure = f"that of {other} (python -m scripts.prepare brings raw scans onto one grid)"
    if tuple(shape) != tuple(edges):
        raise Problem("shape", file, f"shape {_text(shape)}", f"{_text(edges)}, {cure}")
    if not (off := np.abs(np.subtract(affine, reference)).max()) <= AFFINE_TOLERANCE:  # also for NaN
        raise Problem("affine", file, f"affine differs by up to {off:.3g} mm", cure)


def _text(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def orientation_problem(file: str, scan: Any) -> Problem | None:
    """Return a problem if a header leaves positions ambiguous, with no form, or two half a voxel apart."""
    problem = scan.extra["assumed"]
    if "stored" in scan.extra and scan.header["sform_code"] and scan.header["qform_code"]:
        corners = np.array([[*corner, 1] for corner in product(*((0, edge - 1) for edge in scan.shape[:3]))]).T
        with suppress(ValueError):  # of a qform that is not a rotation, so no program can use it
            positions = scan.header.get_qform() @ corners
            if not np.abs(np.linalg.solve(scan.affine, positions) - corners).max() <= 0.5:
                shift = np.linalg.norm((positions - scan.affine @ corners), axis=0).max()
                problem = f"sform and qform place voxels up to {shift:.3g} mm apart"
    return Problem("orientation", file, problem, "one position of each voxel (the sform is used)") if problem else None


def warn_of_orientation(file: str, scan: Any) -> None:
    """Print `orientation_problem`, once in a run."""
    if not _warned[0] and (problem := orientation_problem(file, scan)):
        _warned[0] = 1
        show(f"warning: {problem}; later scans like it are not named", error=True)


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
    """Return the labels in a label map; raise `Problem` if a value is not a whole number.

    With a label convention, also if a label is unknown or, unless `may_fill` (for predictions), 0 does not occur.
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
    return shortened([f"{value:g}" for value in values], most=6)


def is_made_up(path: str | Path) -> bool:
    """Whether a NIfTI file is marked as that of a synthetic subject; False for a damaged file."""
    try:
        return bool(open_volume(path).header["descrip"] == MADE_UP)
    except Exception:  # reading the voxels reports the damage
        return False


def axes_of(affine: NDArray[Any]) -> NDArray[np.float64]:
    """Return nibabel's orientation [3, 2] of the stored axes: the nearest axis of RAS+, and 1 or -1 for its direction.

    Of orders that fit equally, as in scans tilted by 45 degrees, the stored order comes first.
    """
    cosines = np.asarray(affine)[:3, :3] / np.linalg.norm(np.asarray(affine)[:3, :3], axis=0)
    orders = [*permutations(range(3))]
    fits = [np.abs(cosines[order, range(3)]).sum() for order in orders]
    order = orders[int(np.argmax(np.array(fits) > max(fits) - TIED))]
    return np.column_stack([order, np.where(cosines[order, range(3)] < 0, -1.0, 1.0)])


def forms_of(scan: Any) -> bytes:
    """Return a NIfTI header, as bytes, with only the grid of a volume from `open_volume`, for results on that grid.

    Both forms, their codes, pixdim and units are copied bit for bit, so that every program shows both at one position.
    """
    import nibabel

    if "stored" not in scan.extra or scan.extra["assumed"]:
        return bytes(header_on(scan.affine, ASSUMED if scan.extra["assumed"] else 1).binaryblock)
    stored = scan.extra["stored"]
    header = (nibabel.Nifti2Header if isinstance(stored, nibabel.Nifti2Header) else nibabel.Nifti1Header)()
    header["pixdim"][:4] = stored["pixdim"][:4]
    for field in FIELDS:
        header[field] = stored[field]
    return bytes(header.binaryblock)


def header_on(grid: NDArray[Any] | bytes, code: int = 1) -> Any:
    """Return a NIfTI header for `grid`: the bytes from `forms_of`, or an affine to mm in RAS+ for sform and qform.

    A sheared affine becomes only the sform. `code` is 0 unknown, 1 scanner, 2 aligned, 3 Talairach, 4 MNI.
    """
    import nibabel

    if isinstance(grid, bytes):
        is_first = len(grid) == nibabel.Nifti1Header.sizeof_hdr
        return (nibabel.Nifti1Header if is_first else nibabel.Nifti2Header)(grid, check=False)
    header = nibabel.Nifti1Header()
    header.set_xyzt_units("mm")
    header.set_sform(grid, code)
    header["pixdim"][1:4] = nibabel.affines.voxel_sizes(grid)
    rotated = header.copy()
    rotated.set_qform(grid, code)
    is_sheared = (np.abs(rotated.get_qform() - grid)[:3, :3] > ROTATION * header["pixdim"][1:4]).any()
    return header if is_sheared else rotated


def write_volume(
    path: str | Path,
    voxels: np.ndarray,
    grid: NDArray[Any] | bytes,
    code: int = 1,
    compresslevel: int = 6,
    is_label: bool = False,
    description: bytes = b"",
) -> None:
    """Write voxels [x, y, z(, t)] as .nii.gz or .nii, depending on the path; equal content gives equal bytes.

    See `header_on` for `grid` and `code`. A description has up to 79 bytes.
    """
    header = header_on(grid, code)
    header["descrip"] = description
    if is_label:
        header.set_intent("label")
    content = content_of(voxels, header)
    with atomic_write(path) as file:
        file.write_bytes(gzip.compress(content, compresslevel, mtime=0) if str(path).endswith(".gz") else content)


def content_of(voxels: np.ndarray, header: Any, slope: float = 1.0, inter: float = 0.0) -> bytes:
    """Return the bytes of a NIfTI file, as nibabel would alter the header; values are voxels x slope + inter."""
    header.set_data_dtype(voxels.dtype)
    header.set_data_shape(voxels.shape)
    header["vox_offset"], header["scl_slope"], header["scl_inter"] = header.single_vox_offset, slope, inter
    return bytes(header.binaryblock) + bytes(4) + voxels.astype(header.get_data_dtype()).tobytes(order="F")
