"""Read every file of a case as `LoadScand` does, and report its problems."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common.data.names import files_in
from common.data.preparation import measure, without_background
from common.data.volumes import Problem, canonical, check_grid, check_image, labels_in, orientation_problem, read_scan

# Errors break training or scores; warnings deserve a look
ERRORS = (
    *("missing", "unreadable", "dimensions", "type", "shape", "affine"),  # of headers
    *("not_finite", "constant", "outlier", "no_signal", "label_values"),  # of voxels
    *("label_as_image", "copy", "no_label", "leakage", "duplicate"),  # of cases
)
WARNINGS = (
    *("empty_mask", "absent_region", "orientation"),  # an empty mask may be a patient without lesions
    *("spacing", "skull", "extent", "air", "alignment"),  # of `common.data.preparation`
)
CHECKS = dict.fromkeys(ERRORS, "error") | dict.fromkeys(WARNINGS, "warning")


class Record(NamedTuple):
    """Problems of a case, and measurements to compare with the rest of the cohort."""

    problems: list[Problem]
    labels: frozenset[int] | None = None  # values of the label map; None if missing or faulty
    digests: Mapping[str, bytes] = {}  # file -> digest of its voxels; none for most faulty files
    preparation: dict[str, list[Any]] | None = None  # `common.data.preparation.measure`; None if an image is faulty


def examine(case: Mapping[str, Any], root: str, convention: str | None) -> Record:
    """Read all files of a case completely, and return the case's record.

    `convention` is a label convention (`common.data.regions`); None accepts all whole numbers as labels.
    """
    problems: list[Problem] = []
    digests: dict[str, bytes] = {}
    volumes: list[tuple[np.ndarray, np.ndarray]] = []
    reference: Any = None  # shape and affine of the first readable file, and its name
    labels: frozenset[int] | None = None
    for file in dict.fromkeys(files_in(case)):
        try:
            scan, volume = read_scan(Path(root, file), np.float32)
            reference = reference or ((volume.shape, scan.affine), Path(file).name)
            problems += filter(None, [orientation_problem(file, scan)])
            check_grid(file, (volume.shape, scan.affine), *reference)
            is_label = file == case.get("label")
            if is_label:
                labels = labels_in(file, volume, convention)
            else:
                volume = without_background(volume)
                check_image(file, volume)
            upright = canonical(volume, reference[0][1])
            if is_label and labels == {0}:  # empty masks may be equal
                value = "no voxel is labelled"
                problems.append(Problem("empty_mask", file, value, "a lesion, unless the patient has none"))
                continue
            digest = _digest(upright[0])
            original = next((name for name in digests if digests[name] == digest), None)
            if original and is_label:
                value = f"a copy of {Path(file).name}"
                problems.append(Problem("label_as_image", original, value, "an image, not the label map"))
            elif original:
                problems.append(Problem("copy", file, f"a copy of {Path(original).name}", "a different image"))
            digests[file] = digest
            if not is_label:
                volumes.append(upright)
        except Problem as problem:  # with the path below the root
            problems.append(Problem(problem.check, file, problem.problem, problem.expected))
    faulty = {problem.file for problem in problems if CHECKS[problem.check] == "error"}
    is_sound = bool(volumes) and faulty.isdisjoint(case["image"])
    if is_sound and not any(volume.max() > 0 for volume, _ in volumes):
        problems.append(Problem("no_signal", files_in(case)[0], "no voxel above zero", "a brain, as voxels above zero"))
    if convention is not None and "label" not in case and case.get("split") != "unlabelled":
        problems.append(Problem("no_label", files_in(case)[0], "no label", f"a label map that follows {convention}"))
    preparation = measure(np.stack([volume for volume, _ in volumes]), volumes[0][1]) if is_sound else None
    return Record(problems, labels, digests, preparation)


def _digest(volume: np.ndarray) -> bytes:
    """Return a 16-byte digest of a volume's values and shape."""
    values = np.ascontiguousarray(volume.T)
    return hashlib.blake2b(values.data, digest_size=16, salt=str(volume.shape).encode()[:16]).digest()
