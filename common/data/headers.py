"""Check the headers and the readability of a case's files.

A training calls `check_headers` before it starts, and `what_broke` when a file cannot be read. `python -m
scripts.datalists check` builds on the same functions and also checks the voxels.

A case is a dictionary with "subject", "image" (one file per modality, None for a missing one) and, if it has one,
"label" (a file).
"""

import os
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import InputError
from .copies import check_copies

__all__ = [
    "AFFINE_TOLERANCE",
    "CURE",
    "LARGEST",
    "OFF_GRID",
    "Problem",
    "broken_file",
    "check_headers",
    "edges_of",
    "files_in",
    "first_line",
    "grid_of",
    "read_content",
    "read_headers",
    "read_voxels",
    "what_broke",
]

THREADS = 16  # they mostly wait for the storage; reading a header takes 0.3 ms
AFFINE_TOLERANCE = 1e-3  # mm, as in loading
OFF_GRID = ("shape", "affine")  # checks
CURE = "python -m scripts.prepare brings raw scans onto one grid"
GZIP = 31  # zlib's number for its format with the checksum
AFTER = 2**20  # bytes that may follow the voxels
LARGEST = 2.0  # GiB in float32: 800 x 800 x 800 voxels, more than any scanner's


class Problem(NamedTuple):
    """A failed check: its name, the file ("" for the whole cohort), the value found and the value expected."""

    check: str
    file: str
    value: str
    expected: str

    def __str__(self) -> str:
        return f"{self.file}: {self.value}; expected {self.expected}"


def files_in(case: Mapping[str, Any]) -> list[str]:
    """The files of a case that are there: its images, then its label."""
    return [str(file) for file in (*case["image"], case.get("label")) if file]


def check_headers(cases: Sequence[Mapping[str, Any]], largest: float = LARGEST) -> None:
    """Check that all files exist, can be read, are 3D and share one grid within each case, and that no image is a copy.

    Also finds files that are shorter than their header says. Takes about a second for 1,000 subjects of five files.

    Args:
        cases: as `common.data.Datalist.load` returns them.
        largest: GiB that a volume may take in float32, according to its header.

    Raises:
        InputError: a header check fails; names the subject, the file, the value found and the value expected.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        problems = list(pool.map(lambda case: read_headers(case, "", largest)[0], cases))
    bad = [(case["subject"], found[0]) for case, found in zip(cases, problems, strict=True) if found]
    if bad:
        subject, problem = bad[0]
        more = f" ({len(bad) - 1} more of {len(cases)} subjects have such a file)" if len(bad) > 1 else ""
        cure = f"; {CURE}" if problem.check in OFF_GRID else ""
        raise InputError(f"subject {subject}: {problem}{cure}{more}")
    check_copies(cases)


def broken_file(files: Sequence[Any]) -> tuple[str, str] | None:
    """The first file that cannot be read to its end, and the reason in one line; None if all files can be read."""
    for file in map(str, files):
        opened = _open(file, "")
        if not isinstance(opened, Problem):
            opened = read_voxels(file, opened, "")
        if isinstance(opened, Problem):
            return file, opened.value
    return None


def what_broke(entry: Mapping[str, Any], error: BaseException) -> str:
    """Name the file that cannot be read; if all can be, the transforms' error and all files."""
    if broken := broken_file(files_in(entry)):
        return f"{broken[0]}: {broken[1]}; expected a NIfTI file that can be read"
    while error.__cause__ is not None:
        error = error.__cause__
    return f"cannot be prepared: {first_line(error)} ({', '.join(files_in(entry))})"


# Headers


def read_headers(
    case: Mapping[str, Any], root: str, largest: float = LARGEST
) -> tuple[list[Problem], dict[str, Any], Any]:
    """Problems of a case's headers, the files worth reading, and a file with the most common grid.

    Args:
        case: its files relative to `root`.
        root: folder of the files; "" if the paths are absolute.
        largest: GiB that a volume may take in float32.

    Returns:
        The problems; file -> image with only its header read, for files of the most common shape; one of these images
        whose grid most files share, or None if no file can be read.
    """
    problems: list[Problem] = []
    opened: dict[str, Any] = {}
    for file in dict.fromkeys(files_in(case)):
        scan = _open(file, root)
        problem = scan if isinstance(scan, Problem) else _header_problem(file, scan, root, largest)
        if problem is not None:
            problems.append(problem)
        else:
            opened[file] = scan
    if not opened:
        return problems, opened, None
    agreeing = {file: sum(_off(scan, other) is None for other in opened.values()) for file, scan in opened.items()}
    reference = max(agreeing, key=lambda file: agreeing[file])  # of equals the first: an image before the label
    for file, scan in opened.items():
        if (difference := _difference(scan, opened[reference], file == case.get("label"))) is not None:
            check, value, expected = difference
            problems.append(Problem(check, file, value, f"{expected} of {Path(reference).name}"))
    readable = {file: scan for file, scan in opened.items() if edges_of(scan) == edges_of(opened[reference])}
    return problems, readable, opened[reference]


def _open(file: str, root: str) -> Any:
    """An image with only its header read, or its problem."""
    import nibabel  # here and below, as it is slow to import

    path = os.path.join(root, file)  # noqa: PTH118 (an absolute path stays as it is)
    try:
        if not Path(path).is_file():
            return Problem("missing", file, "no such file", "a file")
        scan = nibabel.load(path)
    except Exception as error:  # readers raise many kinds for damaged files
        return Problem("unreadable", file, first_line(error), "a NIfTI image")
    if not isinstance(scan, nibabel.spatialimages.SpatialImage):
        return Problem("unreadable", file, f"a {type(scan).__name__}", "a NIfTI image")
    return scan


def _header_problem(file: str, scan: Any, root: str, largest: float) -> Problem | None:
    if len(edges_of(scan)) != 3 or 0 in scan.shape:
        return Problem("dimensions", file, f"shape {_shape(scan.shape)}", "three dimensions")
    if (declared := prod(map(int, scan.shape)) * 4 / 2**30) > largest:
        value = f"shape {_shape(scan.shape)}, which takes {declared:.3g} GiB in float32"
        return Problem("size", file, value, f"{largest:g} GiB at most, unless --largest_volume is set higher")
    if scan.get_data_dtype().kind not in "biuf":
        return Problem("type", file, f"voxels of type {scan.get_data_dtype()}", "real numbers")
    if not np.isfinite(scan.affine).all() or abs(np.linalg.det(scan.affine)) < 1e-9:
        return Problem("affine", file, "an affine that cannot be inverted", "one that maps voxels to mm")
    try:
        if not _is_complete(os.path.join(root, file), scan):  # noqa: PTH118
            voxels = read_voxels(file, scan, root)
            return voxels if isinstance(voxels, Problem) else None
    except OSError as error:
        return Problem("unreadable", file, first_line(error), "a NIfTI image")
    return None


def _is_complete(path: str, scan: Any) -> bool:
    """Whether a file seems to be as long as its header says, without reading it.

    A gzip file ends with the length of its content modulo 2**32, or with the length of its last member if it has
    several.
    """
    import nibabel

    if not isinstance(scan, nibabel.Nifti1Image):
        return True
    length = _length(scan.dataobj)
    if path.endswith(".gz"):
        with Path(path).open("rb") as stream:
            stream.seek(-4, os.SEEK_END)
            return int.from_bytes(stream.read(4), "little") == length % 2**32
    return not path.endswith(".nii") or Path(path).stat().st_size >= length


def _length(proxy: Any) -> int:
    """Bytes up to the end of the voxels, according to the header."""
    return int(proxy.offset) + prod(map(int, proxy.shape)) * proxy.dtype.itemsize


def edges_of(scan: Any) -> tuple[int, ...]:
    """The shape without the trailing ones that some tools append to three dimensions."""
    edges = tuple(scan.shape)
    while len(edges) > 3 and edges[-1] == 1:
        edges = edges[:-1]
    return edges


def _off(scan: Any, reference: Any) -> str | None:
    """How two grids differ: "shape", "affine", or None if they agree."""
    if edges_of(scan) != edges_of(reference):
        return "shape"
    if np.array_equal(scan.affine, reference.affine):  # the usual case, in a tenth of the time
        return None
    return None if np.allclose(scan.affine, reference.affine, rtol=0, atol=AFFINE_TOLERANCE) else "affine"


def _difference(scan: Any, reference: Any, is_label: bool) -> tuple[str, str, str] | None:
    """Check, value found and value expected if a scan does not lie on the reference's grid.

    Images are stacked without reshaping, so the shapes [x, y, z] and [x, y, z, 1] of two images differ.
    """
    off = _off(scan, reference)
    if off == "affine":
        distance = np.abs(scan.affine - reference.affine).max()
        return "affine", f"affine differs by up to {distance:.3g} mm", "that"
    if off == "shape" or (not is_label and len(scan.shape) != len(reference.shape)):
        return "shape", f"shape {_shape(scan.shape)}", f"{_shape(reference.shape)}, that"
    return None


def grid_of(scan: Any) -> tuple[str, tuple[float, ...]]:
    """Orientation such as "RAS", and spacing along the world's axes in mm; both empty for None."""
    import nibabel

    if scan is None:
        return "", ()
    orientation = nibabel.io_orientation(scan.affine)
    spacing = np.empty(3)
    spacing[orientation[:, 0].astype(int)] = nibabel.affines.voxel_sizes(scan.affine)
    return "".join(nibabel.aff2axcodes(scan.affine)), tuple(map(float, spacing))


# Voxels


def read_voxels(file: str, scan: Any, root: str) -> Any:
    """All voxels as they are stored, or the file's problem. For a gzip file the checksum is verified too.

    Args:
        file: path relative to `root`.
        scan: the image, as nibabel loads it.
        root: folder of the file.
    """
    import nibabel

    proxy = scan.dataobj
    try:
        if isinstance(scan, nibabel.Nifti1Image) and file.endswith(".gz"):
            content = read_content(os.path.join(root, file), proxy)  # noqa: PTH118
            return np.ndarray(proxy.shape, proxy.dtype, content, proxy.offset, order="F")
        if file.endswith(".nii") and (size := Path(root, file).stat().st_size) < _length(proxy):
            raise EOFError(f"{size} of {_length(proxy)} bytes")  # before a reader allocates memory for them
        return np.asanyarray(proxy.get_unscaled())
    except Exception as error:  # readers raise many kinds for damaged files
        return Problem("unreadable", file, first_line(error), "a file that can be read to its end")


def read_content(file: str, proxy: Any) -> bytes:
    """All of a .nii.gz file, decompressed, once its checksums are verified.

    Args:
        file: path.
        proxy: nibabel's of the voxels, which says how many bytes there are; more is refused before it takes memory.

    Raises:
        EOFError: the file ends early.
        OSError: the file cannot be read, a checksum is wrong, or far more follows than the voxels.
    """
    data, length = Path(file).read_bytes(), _length(proxy)
    parts: list[bytes] = []
    while data:
        stream = zlib.decompressobj(wbits=GZIP)
        most = length + AFTER - sum(map(len, parts))
        try:
            parts.append(stream.decompress(data, most + 1))
        except zlib.error as error:
            words = str(error).rpartition(": ")[2]
            raise OSError("CRC check failed" if words == "incorrect data check" else f"damaged: {words}") from error
        if len(parts[-1]) > most:
            raise OSError(f"more than {AFTER} bytes after the {length} that its header declares")
        if not stream.eof:
            raise EOFError("Compressed file ended before the end-of-stream marker was reached")
        data = stream.unused_data.lstrip(b"\0")  # a file may have several parts, and zeros after the last one
    content = b"".join(parts)
    if len(content) < length:
        raise EOFError(f"{len(content)} of {length} bytes")
    return content


# Words


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, or its type if it has no message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
