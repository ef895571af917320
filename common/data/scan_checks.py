"""Check the files, headers, grids and voxels of scans and label maps; `CHECKS` names all checks.

`check_headers` checks all cases before a run without reading voxels; `read_scan` reads one checked file;
`image_problem`, `label_problem` and `grid_problem` check data in memory.

A case is a dictionary with "subject", "image" (a file per modality, None if missing) and, optionally, "label" (a file).
"""

import os
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from filecmp import cmp
from itertools import combinations
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, shortened, show
from .regions import CONVENTIONS, aliases_of, known_labels, regions_of
from .volumes import READABLE, alternative_affine, length_of, open_volume, read_voxels

# Errors break training or scores; warnings deserve a look
ERRORS = (
    *("missing", "unreadable", "dimensions", "size", "type", "shape", "affine"),  # of headers
    *("not_finite", "constant", "outlier", "no_signal", "label_values"),  # of voxels
    *("label_as_image", "copy", "no_label", "leakage", "duplicate"),  # of cases
)
WARNINGS = (
    *("empty_mask", "absent_region", "orientation"),  # an empty mask may be a patient without lesions
    *("spacing", "skull", "extent", "air", "alignment"),  # of `preparation`
)
CHECKS = dict.fromkeys(ERRORS, "error") | dict.fromkeys(WARNINGS, "warning")
OFF_GRID = ("shape", "affine")  # checks
CURE = "python -m scripts.prepare brings raw scans onto one grid"

AFFINE_TOLERANCE = 1e-3  # mm
LABEL_TOLERANCE = 1e-5  # distance from a whole number, as a header's scale factor is in single precision
LARGEST = 2.0  # GiB in float32: 800 x 800 x 800 voxels, more than any scanner's
OUTLIER, FEW = 100, 1000  # multiple of the median; largest number of voxels that is not checked for outliers
HIGHEST = 1e15  # intensity; sums of squares must stay below 3e38, the limit of float32
SHOWN = 6  # label values in a message
UNITS = {1: "m", 3: "micrometres"}  # refused NIfTI unit codes; unknown codes count as mm
THREADS = 16  # more than cores, as they mostly wait for storage; reading a header takes 0.3 ms

Shaped = tuple[Sequence[int], NDArray[Any]]  # a volume's shape, and its affine [4, 4]


class Problem(NamedTuple):
    """A failed check: its name, the file ("" for none or several), the actual and the expected value."""

    check: str
    file: str
    value: str
    expected: str

    def __str__(self) -> str:
        return f"{f'{self.file}: ' if self.file else ''}{self.value}; expected {self.expected}"


def raise_problem(problem: Problem | None) -> None:
    """Raise `InputError` for a problem; do nothing for None."""
    if problem is not None:
        raise InputError(str(problem))


def files_in(case: Mapping[str, Any]) -> list[str]:
    """Return the files that a case has: its images, then its label map."""
    return [str(file) for file in (*case["image"], case.get("label")) if isinstance(file, str | Path) and str(file)]


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message, or its type if the message is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


# Files


def check_headers(cases: Sequence[Mapping[str, Any]], severities: Sequence[str] = ("error", "warning")) -> None:
    """Check that all files exist, can be read, are 3D and share one grid within each case.

    Also finds files that are shorter than their header says. Takes about a second for 1,000 subjects of five files.

    Args:
        cases: Entries as `common.data.Datalist.load` returns them.
        severities: Severities to report: "error" raises an error; "warning" prints a line for each kind of warning.

    Raises:
        InputError: a header check fails; names the subject, the file, the actual value and the expected value.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        problems = list(pool.map(lambda case: read_headers(case, "")[0], cases))
    kinds: dict[str, dict[str, Problem]] = {}  # expected value of warnings, or "" for errors -> subject -> problem
    for case, case_problems in zip(cases, problems, strict=True):
        for problem in case_problems:
            kind = problem.expected if CHECKS[problem.check] == "warning" else ""
            kinds.setdefault(kind, {}).setdefault(case["subject"], problem)
    errors = kinds.pop("", {})
    if "warning" in severities:  # first, as a warning may explain an error
        show(*(f"warning: {_summarize(warnings, len(cases))}" for warnings in kinds.values()), error=True)
    if "error" in severities and errors:
        raise InputError(_summarize(errors, len(cases)))


def _summarize(problems: Mapping[str, Problem], cases: int) -> str:
    """Describe the first subject's problem, and count the other subjects with problems."""
    subject, problem = next(iter(problems.items()))
    more = f" ({len(problems) - 1} more of {cases} subjects fail a check)" if len(problems) > 1 else ""
    cure = f"; {CURE}" if problem.check in OFF_GRID else ""
    return f"subject {subject}: {problem}{cure}{more}"


def check_labels(cases: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a label map that is a copy of another subject's; maps without foreground may be equal.

    Only compressed files are compared, first by length and checksum; `scripts.datalists check` compares all voxels.
    """
    labelled = [case for case in cases if str(case.get("label")).lower().endswith((".gz", ".mgz"))]
    with ThreadPoolExecutor(THREADS) as pool:
        ends = list(pool.map(lambda case: (Path(case["label"]).stat().st_size, _end_of(case["label"])), labelled))
    owners: dict[tuple[int, bytes], Mapping[str, Any]] = {}
    for case, end in zip(labelled, ends, strict=True):
        owner = owners.setdefault(end, case)
        if (
            owner is not case
            and cmp(owner["label"], case["label"], shallow=False)
            and read_scan(case["label"])[1].any()
        ):
            raise InputError(
                f"subject {case['subject']}: {case['label']}: a copy of {owner['label']} of {owner['subject']}"
            )


def absent_regions(cases: Sequence[Mapping[str, Any]], convention: str) -> list[str]:
    """Return the regions absent from all label maps; raise `InputError` if no label map has a labelled voxel."""
    labels = [case["label"] for case in cases if "label" in case]
    absent, values = regions_of(convention), set[float]()
    for label in labels:
        values |= {*np.rint(np.unique(read_scan(label)[1])).tolist()}
        absent = {name: region for name, region in absent.items() if region.isdisjoint(values)}
        if not absent:
            break
    if labels and values <= {0}:
        problem = f"no labelled voxel in this or any label map ({len(labels)} read)"
        raise InputError(f"{labels[0]}: {problem}; expected labelled regions")
    return list(absent) if labels else []


def _end_of(path: str) -> bytes:
    """Return a file's last 8 bytes: in gzip, the checksum and length, modulo 2**32, of the last member."""
    with Path(path).open("rb") as stream:
        stream.seek(-8, os.SEEK_END)
        return stream.read()


def read_headers(case: Mapping[str, Any], root: str) -> tuple[list[Problem], dict[str, Any], Any]:
    """Return the header problems of a case, its opened files by path, and the first of these, which defines the grid.

    Files that differ in shape from the first are left out; the first is None if no file can be opened. `root` is the
    folder of relative paths.
    """
    problems: list[Problem] = []
    opened: dict[str, Any] = {}
    for file in dict.fromkeys(files_in(case)):
        scan, problem = _open(file, root)
        if problem is None and (problem := _length_problem(file, scan, str(Path(root, file)))) is None:
            opened[file] = scan
        else:
            problems.append(problem)
    if not opened:
        return problems, opened, None
    first, reference = next(iter(opened.items()))
    for file, scan in opened.items():
        grid, expected = [(edges_of(image), image.affine) for image in (scan, reference)]
        problem = grid_problem(file, grid, expected, Path(first).name)
        problems += filter(None, [problem, orientation_problem(file, scan)])
    readable = {file: scan for file, scan in opened.items() if edges_of(scan) == edges_of(reference)}
    return problems, readable, reference


def read_scan(path: str | Path, dtype: type | None = None) -> tuple[Any, np.ndarray]:
    """Check and read a file with a single volume; return nibabel's image and the scaled voxels [x, y, z].

    Raise `InputError` if the header or checksum fails a check, MemoryError if the host is out of memory.
    """
    file = str(path)
    scan, problem = _open(file, "")
    try:
        if problem is None:
            return scan, read_voxels(scan, file, dtype).reshape(edges_of(scan))
    except Exception as error:  # damaged files raise many exceptions
        problem = unreadable(file, error)
    raise InputError(str(problem))


def unreadable(file: str, error: BaseException) -> Problem:
    """Convert an error from reading a file to a `Problem`; raise MemoryError if the host is out of memory."""
    if isinstance(error, MemoryError):  # the file is not the cause
        raise MemoryError(f"{file}: out of memory on the host") from error
    return Problem("unreadable", file, first_line(error), READABLE)


def broken_file(files: Sequence[Any]) -> tuple[str, str] | None:
    """Return the first file that cannot be read to its end, with the reason; None if all can be read."""
    for file in map(str, files):
        try:
            read_voxels(open_volume(file), file)
        except Exception as error:
            return file, unreadable(file, error).value
    return None


def describe_error(entry: Mapping[str, Any], error: BaseException) -> str:
    """Describe an error in the transforms of a case in one line: type, message and files."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"cannot be prepared: {type(error).__name__}: {first_line(error)} ({', '.join(files_in(entry))})"


def _open(file: str, root: str) -> tuple[Any, Problem | None]:
    """Open an image without its voxels; return the image with the problem of its header, if any."""
    try:
        scan = open_volume(Path(root, file))
        return scan, _header_problem(file, scan)
    except FileNotFoundError as error:
        return None, Problem("missing", file, first_line(error), "a file")
    except Exception as error:
        return None, unreadable(file, error)


def _header_problem(file: str, scan: Any) -> Problem | None:
    import nibabel

    if len(edges_of(scan)) != 3:
        return Problem("dimensions", file, f"shape {_shape(scan.shape)}", "three dimensions")
    if (declared := prod(map(int, scan.shape)) * 4 / 2**30) > LARGEST:
        value = f"shape {_shape(scan.shape)}, which takes {declared:.3g} GiB in float32"
        return Problem("size", file, value, f"{LARGEST:g} GiB at most")
    if scan.get_data_dtype().kind not in "biuf":
        return Problem("type", file, f"voxels of type {scan.get_data_dtype()}", "real numbers")
    if not np.isfinite(scan.affine).all() or abs(np.linalg.det(scan.affine)) < 1e-9:
        return Problem("affine", file, "an affine that cannot be inverted", "an affine from voxels to mm")
    lowest = getattr(scan.header, "single_vox_offset", 0) if getattr(scan.header, "is_single", False) else 0
    if scan.dataobj.offset < lowest:
        return Problem(
            "unreadable", file, f"voxels start at byte {scan.dataobj.offset}", f"{lowest} or later, after the header"
        )
    if isinstance(scan, nibabel.Nifti1Pair) and (unit := int(scan.header["xyzt_units"]) & 7) in UNITS:
        return Problem("unreadable", file, f"lengths in {UNITS[unit]}", "mm")
    return None


def _length_problem(file: str, scan: Any, path: str) -> Problem | None:
    """Return a problem if a .nii or .nii.gz file is too short; a file of unusual length is read in full to decide.

    A gzip file ends with the length of its last member, modulo 2**32, which is read without decompression.
    """
    try:
        if path.lower().endswith(".nii.gz"):
            is_complete = int.from_bytes(_end_of(path)[4:], "little") == length_of(scan) % 2**32
        else:
            is_complete = not path.lower().endswith(".nii") or Path(path).stat().st_size >= length_of(scan)
        if not is_complete:
            read_voxels(scan, path)
    except Exception as error:
        return unreadable(file, error)
    return None


# Grids


def edges_of(scan: Any) -> tuple[int, ...]:
    """Return the shape of a scan without the axes of length 1 that some tools append to three dimensions."""
    edges = tuple(scan.shape)
    while len(edges) > 3 and edges[-1] == 1:
        edges = edges[:-1]
    return edges


def grid_problem(file: str, grid: Shaped, expected: Shaped, other: str) -> Problem | None:
    """Return a problem if a file's grid (shape, affine) differs from `expected`, that of `other`, by over 0.001 mm."""
    (shape, affine), (edges, reference) = grid, expected
    if tuple(shape) != tuple(edges):
        return Problem("shape", file, f"shape {_shape(shape)}", f"{_shape(edges)}, that of {other}")
    if not (off := np.abs(np.subtract(affine, reference)).max()) <= AFFINE_TOLERANCE:  # also for NaN
        return Problem("affine", file, f"affine differs by up to {off:.3g} mm", f"that of {other}")
    return None


def orientation_problem(file: str, scan: Any) -> Problem | None:
    """Return a problem if a header leaves positions ambiguous: a part is assumed, or its affines disagree."""
    import nibabel

    def axes_of(affine: Any) -> str:  # a degenerate affine leaves axes without a direction
        return "".join(code or "?" for code in nibabel.aff2axcodes(affine))

    used = axes_of(scan.affine)
    if value := scan.extra["assumed"]:
        expected = f"a header that states it ({used} is assumed, and stated in results)"
        return Problem("orientation", file, value, expected)
    if (alternative := alternative_affine(scan)) is None:
        return None
    field, affine, apart = alternative
    other = axes_of(affine)
    sides = "" if used == other else f" ({used} and {other})"
    value = f"sform and {field}{sides} place voxels up to {apart:.3g} mm apart"
    return Problem("orientation", file, value, "equal positions (the sform is used)")


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


# Voxels


def image_problem(file: str, volume: NDArray[Any]) -> Problem | None:
    """Return a problem if an image has non-finite voxels, fewer than two different non-zero values, or an outlier."""
    if not np.isfinite(volume).all():
        count = f"{np.isnan(volume).sum()} voxels NaN, {np.isinf(volume).sum()} infinite"
        return Problem("not_finite", file, count, "finite values in float32")
    if not volume.any():
        return Problem("constant", file, "zero everywhere", "a brain")
    values = volume[volume != 0]
    if values.min() == values.max():
        return Problem("constant", file, f"{values[0]:g} in every voxel that is not 0", "a brain, not a mask of it")
    squares = np.square(values - values.mean(dtype=np.float64), dtype=np.float64)
    extreme = values[squares.argmax()]
    if len(values) > FEW and squares.max() > squares.sum() / 2 and abs(extreme) > OUTLIER * np.median(np.abs(values)):
        return Problem("outlier", file, f"{extreme:.3g} in one voxel, which distorts the z-score of all", "intensities")
    if abs(extreme) > HIGHEST:
        return Problem("outlier", file, f"voxels up to {abs(extreme):.3g}", f"intensities up to {HIGHEST:g}")
    return None


def copy_problem(volumes: Mapping[str, NDArray[Any]]) -> Problem | None:
    """Return a problem if two modalities have equal volumes."""
    for (name, volume), (other, copy) in combinations(volumes.items(), 2):
        if np.array_equal(volume, copy):
            return Problem("copy", other, f"a copy of {name}", "a different image")
    return None


def label_counts(voxels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return a label map's sorted values and the number of voxels with each value."""
    values, counts = np.unique(voxels[voxels != 0], return_counts=True)  # only the few non-zero voxels are sorted
    if background := voxels.size - counts.sum():
        values, counts = np.append(values, values.dtype.type(0)), np.append(counts, background)
    order = np.argsort(values)
    return values[order], counts[order]


def whole_labels(values: NDArray[Any]) -> frozenset[int]:
    """Convert label values to whole numbers; `label_problem` must have found no problem."""
    return frozenset(np.rint(values).astype(int).tolist())


def label_problem(
    file: str, values: NDArray[Any], conventions: Collection[str] = (), may_fill: bool = False
) -> Problem | None:
    """Return a problem if the values of a label map are not whole numbers or, with `conventions`, not valid labels.

    Deviations of up to 0.00001 from a whole number are accepted, as headers may scale values. A label is valid if any
    of the conventions has it, but 3 and 4 must not both mark enhancing tumour. 0 must occur unless `may_fill` (for
    predictions).
    """
    if not np.isfinite(values).all():
        return Problem("not_finite", file, "NaN or infinite labels", "whole numbers")
    exact = values.astype(np.float64)
    broken = exact[(np.abs(exact - np.rint(exact)) > LABEL_TOLERANCE) | (np.abs(exact) > HIGHEST)]
    if len(broken):
        return Problem("label_values", file, f"label {_listed(broken)}", "whole numbers as labels")
    if not conventions:
        return None
    labels = whole_labels(values)
    valid = frozenset[int]().union(*map(known_labels, conventions))
    if unknown := sorted(labels - valid):
        sizes = {name: len(known_labels(name)) for name in CONVENTIONS if labels <= known_labels(name)}
        alike = [name for name in sizes if sizes[name] == min(sizes.values())]
        guess = f", which looks like {' or '.join(alike)}" if alike else ""
        expected = f"labels {', '.join(map(str, sorted(valid)))} ({' or '.join(conventions)})"
        return Problem("label_values", file, f"label {_listed(unknown)}{guess}", expected)
    for value, other in aliases_of(conventions).items():
        if {value, other} <= labels:
            return Problem("label_values", file, f"labels {other} and {value}", "one of them for enhancing tumour")
    if 0 not in labels and not may_fill:
        return Problem("constant", file, f"label {_listed(values)} and no 0", "lesions, and 0 elsewhere")
    return None


def _listed(values: Sequence[float] | NDArray[Any]) -> str:
    return shortened([f"{value:g}" for value in values], SHOWN)
