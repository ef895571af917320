"""Checks of a cohort's files: what would stop a training, spoil it in silence, or flatter its figures.

A training asks `check_headers` before it starts and `broken_file` when a file breaks; `python -m scripts.datalists
check` opens everything with `examine`, case by case.

A case is a dictionary with "subject", "image" (files, one a modality) and "label" (a file) where there is one.
"""

import gzip
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import nibabel
import numpy as np

from common.preflight import InputError

__all__ = ["CHECKS", "Image", "Problem", "Record", "broken_file", "check_headers", "examine", "in_mm"]

# Each check with its severity. An error breaks a training or its figures; a warning asks for a look.
CHECKS = {
    "missing": "error",
    "unreadable": "error",
    "dimensions": "error",
    "type": "error",
    "shape": "error",
    "affine": "error",
    "not_finite": "error",
    "constant": "error",
    "label_values": "error",
    "label_as_image": "error",
    "no_label": "error",
    "leakage": "error",
    "duplicate": "error",
    "copy": "warning",
    "empty_mask": "warning",  # no error: some patients have no lesion
    "orientation": "warning",
    "spacing": "warning",
    "brain_extraction": "warning",
    "intensity": "warning",
    "negative": "warning",
    "clipped": "warning",
}

THREADS = 16  # that wait for the storage; a header itself is read in 0.3 ms
AFFINE_TOLERANCE = 1e-3  # mm, as on loading
CLIPPED = 1e-3  # share of the tissue that lies at the limit of its integer type
LARGEST = float(np.finfo(np.float32).max)  # voxels are float32 once they are loaded
SAMPLE = 1_000_000  # voxels, about, that tissue is measured on
TISSUE = 0.01  # share of the intensity range above which a voxel is no background


class Problem(NamedTuple):
    """What is wrong: a name of `CHECKS`, the file ("" where it is the cohort), what was found, what was expected."""

    check: str
    file: str
    value: str
    expected: str

    def __str__(self) -> str:
        return f"{self.file}: {self.value}; expected {self.expected}"


class Image(NamedTuple):
    """What is kept of an image.

    Attributes:
        litres: volume of the tissue: voxels that differ from the background, which is the median of the corners, by
            more than 1 % of the intensity range.
        high: 99th percentile of the tissue's distance from the background; the intensity range.
        negative: whether a voxel is below zero.
    """

    litres: float
    high: float
    negative: bool


class Record(NamedTuple):
    """What is kept of a case.

    Attributes:
        problems: of its files.
        orientation: such as "RAS", of the grid that most of its files share; "" where none can be read.
        spacing: edges of a voxel along x, y, z of the world, mm; empty where none can be read.
        images: one for each modality, None where it is not sound.
        digests: of the voxels of each image and of the label, b"" where it is not sound, constant or not there.
    """

    problems: tuple[Problem, ...]
    orientation: str = ""
    spacing: tuple[float, ...] = ()
    images: tuple[Image | None, ...] = ()
    digests: tuple[bytes, ...] = ()


def check_headers(cases: Sequence[Mapping[str, Any]]) -> None:
    """Hold the headers of all cases to what loading needs: files that exist, can be read, are 3D and share one grid.

    Files that are shorter than their header says are found too. Takes about a second for 1,000 subjects of five files.

    Args:
        cases: as `common.datalists.load` returns them.

    Raises:
        InputError: one is not so; names the subject, the file, what was found and what was expected.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        problems = list(pool.map(lambda case: _headers(case, "")[0], cases))
    bad = [(case["subject"], found[0]) for case, found in zip(cases, problems, strict=True) if found]
    if bad:
        subject, problem = bad[0]
        more = f" ({len(bad) - 1} more of {len(cases)} subjects have such a file)" if len(bad) > 1 else ""
        raise InputError(f"subject {subject}: {problem}{more}")


def broken_file(files: Sequence[Any]) -> tuple[str, str] | None:
    """The first of some files that cannot be read to its end, with the reason in one line; None where all can be."""
    for file in map(str, files):
        opened = _open(file, "")
        if not isinstance(opened, Problem):
            opened = _voxels(file, opened, "")
        if isinstance(opened, Problem):
            return file, opened.value
    return None


def examine(case: Mapping[str, Any], root: str, convention: str | None, known: Mapping[str, frozenset[int]]) -> Record:
    """Open all files of a case, to their last byte; whatever they hold, no exception comes out.

    Args:
        case: its files relative to `root`.
        root: the cohort's folder.
        convention: what the label's values mean; None where only whole numbers are asked for.
        known: label values of each convention, 0 included.
    """
    try:
        return _examine(case, root, convention, known)
    except Exception as error:  # out of memory, say: the other cases are still to be checked
        return Record((Problem("unreadable", case["image"][0], _reason(error), "a case that can be checked"),))


def _examine(case: Mapping[str, Any], root: str, convention: str | None, known: Mapping[str, frozenset[int]]) -> Record:
    problems, opened, reference = _headers(case, root)
    images: dict[str, Image | None] = {}
    digests: dict[str, bytes] = {}
    for file, scan in opened.items():
        found: list[Problem] = []
        voxels = _voxels(file, scan, root)
        if isinstance(voxels, Problem):
            found.append(voxels)
        elif file == case.get("label"):
            found += _label_problems(file, _label_values(voxels, scan), convention, known)
        else:
            found, images[file] = _measure(file, voxels, scan)
        if not any(problem.check in ("unreadable", "not_finite", "constant", "empty_mask") for problem in found):
            digests[file] = _digest(voxels, scan)
        problems += found
    problems += _copies(case, digests)
    if convention is not None and "label" not in case and case.get("split") != "unlabelled":
        problems.append(Problem("no_label", case["image"][0], "no label", f"one that follows {convention}"))
    files = (*case["image"], case.get("label"))
    return Record(
        tuple(problems),
        *_grid(reference),
        images=tuple(map(images.get, case["image"])),
        digests=tuple(digests.get(file, b"") for file in files),
    )


# Headers


def _headers(case: Mapping[str, Any], root: str) -> tuple[list[Problem], dict[str, Any], Any]:
    """Problems of a case's headers, the files whose voxels are to be read, and one whose grid most of them share."""
    problems: list[Problem] = []
    opened: dict[str, Any] = {}
    for file in dict.fromkeys([*case["image"], *filter(None, [case.get("label")])]):
        scan = _open(file, root)
        problem = scan if isinstance(scan, Problem) else _header_problem(file, scan, root)
        if problem is not None:
            problems.append(problem)
        else:
            opened[file] = scan
    if not opened:
        return problems, opened, None
    agreeing = {file: sum(_off(scan, other) is None for other in opened.values()) for file, scan in opened.items()}
    reference = max(agreeing, key=lambda file: agreeing[file])  # the first of the best: an image before the label
    for file, scan in opened.items():
        if (difference := _difference(scan, opened[reference], file == case.get("label"))) is not None:
            check, value, expected = difference
            problems.append(Problem(check, file, value, f"{expected} of {Path(reference).name}"))
    readable = {file: scan for file, scan in opened.items() if _edges(scan) == _edges(opened[reference])}
    return problems, readable, opened[reference]


def _open(file: str, root: str) -> Any:
    """An image of which the header alone is read, or the problem with it."""
    path = os.path.join(root, file)  # noqa: PTH118, an absolute file stays what it is
    try:
        if not Path(path).is_file():
            return Problem("missing", file, "no such file", "a file")
        scan = nibabel.load(path)
    except Exception as error:  # whatever a reader makes of a damaged file
        return Problem("unreadable", file, _reason(error), "a NIfTI image")
    if not isinstance(scan, nibabel.spatialimages.SpatialImage):
        return Problem("unreadable", file, f"a {type(scan).__name__}", "a NIfTI image")
    return scan


def _header_problem(file: str, scan: Any, root: str) -> Problem | None:
    if len(_edges(scan)) != 3 or 0 in scan.shape:
        return Problem("dimensions", file, f"shape {_shape(scan.shape)}", "three dimensions")
    if scan.get_data_dtype().kind not in "biuf":
        return Problem("type", file, f"voxels of type {scan.get_data_dtype()}", "real numbers")
    if not np.isfinite(scan.affine).all() or abs(np.linalg.det(scan.affine)) < 1e-9:
        return Problem("affine", file, "an affine that cannot be inverted", "one that maps voxels to mm")
    try:
        if not _is_complete(os.path.join(root, file), scan):  # noqa: PTH118
            voxels = _voxels(file, scan, root)
            return voxels if isinstance(voxels, Problem) else None
    except OSError as error:
        return Problem("unreadable", file, _reason(error), "a NIfTI image")
    return None


def _is_complete(path: str, scan: Any) -> bool:
    """Whether a file is as long as its header says, as far as that can be told without reading it.

    A gzip file of one part ends with its content's length, modulo 2**32; of several, with that of the last part.
    """
    if not isinstance(scan, nibabel.Nifti1Image):
        return True
    length = _length(scan.dataobj)
    if path.endswith(".gz"):
        with Path(path).open("rb") as stream:
            stream.seek(-4, os.SEEK_END)
            return int.from_bytes(stream.read(4), "little") == length % 2**32
    return not path.endswith(".nii") or Path(path).stat().st_size >= length


def _length(proxy: Any) -> int:
    """Bytes up to the end of the voxels, as the header has it."""
    return int(proxy.offset) + prod(map(int, proxy.shape)) * proxy.dtype.itemsize


def _edges(scan: Any) -> tuple[int, ...]:
    """The shape without the ones that some tools append to three dimensions."""
    edges = tuple(scan.shape)
    while len(edges) > 3 and edges[-1] == 1:
        edges = edges[:-1]
    return edges


def _off(scan: Any, reference: Any) -> str | None:
    """Whether two grids differ: None, "shape" or "affine"."""
    if _edges(scan) != _edges(reference):
        return "shape"
    if np.array_equal(scan.affine, reference.affine):  # the usual case, in a tenth of the time
        return None
    return None if np.allclose(scan.affine, reference.affine, rtol=0, atol=AFFINE_TOLERANCE) else "affine"


def _difference(scan: Any, reference: Any, is_label: bool) -> tuple[str, str, str] | None:
    """Check, value and expectation where a scan does not lie on the reference's grid.

    Images are stacked as they are: beside a shape [x, y, z] the shape [x, y, z, 1] is another one.
    """
    off = _off(scan, reference)
    if off == "affine":
        distance = np.abs(scan.affine - reference.affine).max()
        return "affine", f"affine differs by up to {distance:.3g} mm", "that"
    if off == "shape" or (not is_label and len(scan.shape) != len(reference.shape)):
        return "shape", f"shape {_shape(scan.shape)}", f"{_shape(reference.shape)}, that"
    return None


def _grid(scan: Any) -> tuple[str, tuple[float, ...]]:
    """Orientation, and spacing in mm along the world's axes."""
    if scan is None:
        return "", ()
    orientation = nibabel.io_orientation(scan.affine)
    spacing = np.empty(3)
    spacing[orientation[:, 0].astype(int)] = nibabel.affines.voxel_sizes(scan.affine)
    return "".join(nibabel.aff2axcodes(scan.affine)), tuple(map(float, spacing))


# Voxels


def _voxels(file: str, scan: Any, root: str) -> Any:
    """All voxels as they are stored, or the problem with them; of a gzip file the checksum counts too."""
    proxy = scan.dataobj
    try:
        if isinstance(scan, nibabel.Nifti1Image) and file.endswith(".gz"):
            content = gzip.decompress(Path(root, file).read_bytes())
            if len(content) < _length(proxy):
                raise EOFError(f"{len(content)} of {_length(proxy)} bytes")
            return np.ndarray(proxy.shape, proxy.dtype, content, proxy.offset, order="F")
        if file.endswith(".nii") and (size := Path(root, file).stat().st_size) < _length(proxy):
            raise EOFError(f"{size} of {_length(proxy)} bytes")  # before a reader makes room for them
        return np.asanyarray(proxy.get_unscaled())
    except Exception as error:  # whatever a reader makes of a damaged file
        return Problem("unreadable", file, _reason(error), "a file that can be read to its end")


def _scaled(values: np.ndarray, scan: Any) -> np.ndarray:
    """Stored values as what they mean; float32 where the header scales them."""
    slope, intercept = scan.dataobj.slope, scan.dataobj.inter
    if (slope, intercept) == (1, 0):
        return values
    with np.errstate(over="ignore"):
        return values.astype(np.float32) * np.float32(slope) + np.float32(intercept)


def _digest(voxels: np.ndarray, scan: Any) -> bytes:
    """16 bytes that images of the same values on the same three edges share, whatever their type on disk."""
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(_scaled(voxels, scan).T, dtype=np.float32)
    return hashlib.blake2b(values.data, digest_size=16, salt=str(_edges(scan)).encode()[:16]).digest()


def _measure(file: str, voxels: np.ndarray, scan: Any) -> tuple[list[Problem], Image | None]:
    """The problems of an image's voxels, and what is kept of it where it has none that is an error."""
    if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
        count = f"{np.isnan(voxels).sum()} voxels NaN, {np.isinf(voxels).sum()} infinite"
        return [Problem("not_finite", file, count, "finite ones")], None
    slope, intercept = scan.dataobj.slope, scan.dataobj.inter
    lowest, highest = sorted(float(value) * float(slope) + float(intercept) for value in (voxels.min(), voxels.max()))
    if not max(-lowest, highest) <= LARGEST:
        value = f"values from {lowest:.3g} to {highest:.3g}, infinite as float32"
        return [Problem("not_finite", file, value, "finite ones")], None
    lowest, highest = float(np.float32(lowest)), float(np.float32(highest))
    if lowest == highest:
        return [Problem("constant", file, f"{lowest:g} everywhere", "a brain")], None
    step = max(1, round((voxels.size / SAMPLE) ** (1 / 3)))
    values = _scaled(voxels.reshape(_edges(scan), order="F")[::step, ::step, ::step], scan).astype(np.float64)
    corners = values[:: max(1, values.shape[0] - 1), :: max(1, values.shape[1] - 1), :: max(1, values.shape[2] - 1)]
    distance = np.abs(values - np.median(corners))
    high = float(np.percentile(distance[distance > 0], 99)) if distance.any() else 0.0
    share = float((distance > TISSUE * high).mean())
    litres = share * voxels.size * abs(float(np.linalg.det(scan.affine[:3, :3]))) / 1e6  # mm3
    image = Image(litres, high, min(lowest, highest) < 0)
    return _clipped(file, voxels, share), image


def _clipped(file: str, voxels: np.ndarray, tissue: float) -> list[Problem]:
    """Too much of the tissue at a limit of the stored type; 0 is no limit, as it is the background's value."""
    if voxels.dtype.kind not in "iu":
        return []
    limits = np.iinfo(voxels.dtype)
    for limit in {limits.min, limits.max} - {0}:
        count = int((voxels == limit).sum())
        if count > CLIPPED * tissue * voxels.size:
            value = f"{count} voxels at {limit}, a limit of {voxels.dtype.name}"
            return [Problem("clipped", file, value, "intensities below the limit")]
    return []


def _label_values(voxels: np.ndarray, scan: Any) -> np.ndarray:
    """The values of a label map, sorted."""
    stored = np.unique(voxels[voxels != 0])  # few are not zero: sorting them alone is quick
    if (voxels == 0).any():
        stored = np.append(stored, stored.dtype.type(0))
    return np.sort(_scaled(stored, scan))


def _label_problems(
    file: str, values: np.ndarray, convention: str | None, known: Mapping[str, frozenset[int]]
) -> list[Problem]:
    if not np.isfinite(values).all():
        return [Problem("not_finite", file, "NaN or infinite labels", "whole numbers")]
    if len(broken := values[values != np.round(values)]):
        return [Problem("label_values", file, f"label {_listed(broken)}", "whole numbers")]
    found = frozenset(map(int, values))
    if convention is not None and not found <= known[convention]:
        alike = [name for name, numbers in known.items() if found <= numbers]
        guess = f"looks like {' or '.join(alike)}" if alike else "fits no known convention"
        expected = f"{_listed(sorted(known[convention]))} ({convention})"
        return [Problem("label_values", file, f"labels {_listed(values)}: {guess}", expected)]
    if found == {0}:
        return [Problem("empty_mask", file, "no voxel is labelled", "a lesion, unless the patient has none")]
    if len(found) == 1:
        return [Problem("constant", file, f"{values[0]:g} everywhere", "a lesion in the background 0")]
    return []


def _copies(case: Mapping[str, Any], digests: Mapping[str, bytes]) -> Iterator[Problem]:
    """Modalities of one case that are its label or each other, by their path or by their voxels."""
    label = case.get("label")
    first: dict[Any, str] = {}
    if label is not None:
        first = dict.fromkeys(_identities(label, digests), label)
    truth = set(first)
    for file in case["image"]:
        names = _identities(file, digests)
        same = next((first[name] for name in names if name in first), None)
        if not truth.isdisjoint(names):
            yield Problem("label_as_image", file, f"the label {Path(str(label)).name}", "an image, not its truth")
        elif same is not None:
            what = "the file of another modality" if same == file else f"the voxels of {Path(same).name}"
            yield Problem("copy", file, what, "an image of its own")
        first |= {name: file for name in names if name not in first}


def _identities(file: str, digests: Mapping[str, bytes]) -> list[str | bytes]:
    """What two files that are one share: the path, and the digest where there is one."""
    return [os.path.normpath(file), *filter(None, [digests.get(file)])]


# Words


def _reason(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def in_mm(spacing: Sequence[float] | np.ndarray) -> str:
    """A spacing in words, such as "1 x 1 x 1 mm"."""
    return " x ".join(f"{edge:.3g}" for edge in spacing) + " mm"


def _listed(values: Sequence[float] | np.ndarray) -> str:
    shown = ", ".join(f"{value:g}" for value in values[:6])
    return shown if len(values) <= 6 else f"{shown} and {len(values) - 6} more"
