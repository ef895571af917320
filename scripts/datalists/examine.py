"""Read every file of a case completely and report its problems."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common.data.modalities import first_image
from common.data.preparation import measure, without_background
from common.data.scan_checks import (
    CHECKS,
    Problem,
    edges_of,
    first_line,
    image_problem,
    label_counts,
    label_problem,
    read_headers,
    unreadable,
    whole_labels,
)
from common.data.volumes import canonical, read_voxels


class Record(NamedTuple):
    """Problems of a case, and measurements to compare with the rest of the cohort."""

    problems: tuple[Problem, ...]
    orientation: str = ""  # such as "RAS", of the most common grid; "" if no file is readable
    labels: frozenset[int] | None = None  # values of the label map; None if missing or faulty
    digests: Mapping[str, bytes] = {}  # file -> digest of its voxels; none for most faulty files
    preparation: dict[str, list[Any]] | None = None  # `common.data.preparation.measure`; None if an image is faulty


def examine(case: Mapping[str, Any], root: str, convention: str | None) -> Record:
    """Read all files of a case completely, and return the case's record; every exception becomes a problem.

    `convention` is a label convention (`common.data.regions`); None accepts all whole numbers as labels.
    """
    try:
        return _examine(case, root, convention)
    except Exception as error:  # such as a lack of memory; the check continues with the next case
        return Record((Problem("unreadable", first_image(case), first_line(error), "a case that can be checked"),))


def _examine(case: Mapping[str, Any], root: str, convention: str | None) -> Record:
    import nibabel  # imported late to keep `--help` fast

    problems, opened, reference = read_headers(case, root)
    digests: dict[str, bytes] = {}
    volumes: list[tuple[np.ndarray, np.ndarray]] = []
    labels: frozenset[int] | None = None
    for file, scan in opened.items():
        try:
            volume = read_voxels(scan, Path(root, file), np.float32).reshape(edges_of(scan))
        except Exception as error:  # readers raise many types for damaged files
            problems.append(unreadable(file, error))
            continue
        if file == case.get("label"):
            values, _ = label_counts(volume)
            fault = _label_problem(file, values, convention)
            labels = whole_labels(values) if fault is None or fault.check == "empty_mask" else None
            if fault is None or fault.check == "label_values":
                digests[file] = _digest(canonical(volume, scan.affine)[0])
        elif (fault := image_problem(file, volume := without_background(volume))) is None:
            volumes.append(canonical(volume, scan.affine))
            digests[file] = _digest(volumes[-1][0])
        problems += [fault] if fault else []
    problems += _copies(case, digests)
    faulty = {problem.file for problem in problems if CHECKS[problem.check] == "error"}
    is_sound = bool(volumes) and faulty.isdisjoint(case["image"])
    if is_sound and not any(volume.max() > 0 for volume, _ in volumes):
        problems.append(Problem("no_signal", first_image(case), "no voxel above zero", "a brain, as voxels above zero"))
    if convention is not None and "label" not in case and case.get("split") != "unlabelled":
        problems.append(Problem("no_label", first_image(case), "no label", f"a label map that follows {convention}"))
    return Record(
        tuple(problems),
        "" if reference is None else "".join(nibabel.aff2axcodes(reference.affine)),
        labels=labels,
        digests=digests,
        preparation=measure(np.stack([volume for volume, _ in volumes]), volumes[0][1]) if is_sound else None,
    )


def _digest(volume: np.ndarray) -> bytes:
    """Return a 16-byte digest of a volume's values and shape."""
    values = np.ascontiguousarray(volume.T)
    return hashlib.blake2b(values.data, digest_size=16, salt=str(volume.shape).encode()[:16]).digest()


def _label_problem(file: str, values: np.ndarray, convention: str | None) -> Problem | None:
    if problem := label_problem(file, values, [] if convention is None else [convention]):
        return problem
    if not values.any():
        return Problem("empty_mask", file, "no voxel is labelled", "a lesion, unless the patient has none")
    return None


def _copies(case: Mapping[str, Any], digests: Mapping[str, bytes]) -> Iterator[Problem]:
    """Yield a problem for each image with the same voxels as the label or an earlier image of the case."""
    label = case.get("label", "")
    owners = {digests[label]: label} if label in digests else {}
    for file in filter(None, case["image"]):
        owner = owners.setdefault(digests[file], file) if file in digests else file
        if owner != file:
            check, expected = (
                ("label_as_image", "an image, not the label map") if owner == label else ("copy", "a different image")
            )
            yield Problem(check, file, f"a copy of {Path(owner).name}", expected)
