"""Read and check the masks of a case: prediction and reference."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data.regions import aliases_of, alike, display_order, regions_of
from ..data.scan_checks import grid_problem, label_counts, label_problem, raise_problem, read_scan, whole_labels
from .results import CaseFiles


class CaseMasks(NamedTuple):
    """Masks [x, y, z] by region, in display order, on the grid of the reference.

    `predictions` is empty without a prediction; `labels` are the values in both files, as stored.
    """

    predictions: dict[str, NDArray[np.bool_]]
    references: dict[str, NDArray[np.bool_]]
    affine: NDArray[np.float64]
    labels: tuple[frozenset[int], frozenset[int]]


class _LabelMap(NamedTuple):
    labels: NDArray[np.uint8]  # [x, y, z]; 4 of brats2021 is now 3
    values: frozenset[int]  # as stored in the file
    affine: NDArray[np.float64]


def masks_of(files: CaseFiles, convention: str) -> CaseMasks:
    """Read and check a case's regions; without a prediction, its masks are empty.

    Trailing axes of length 1 are dropped. brats2021 and brats2023 are read alike: enhancing tumour is 3 or 4, but not
    both. Unreadable files, unknown labels and different grids (affines by more than 0.001 mm) raise `InputError`.
    """
    reference, prediction = _pair(files, convention)
    found = regions_of(alike(convention)[0])
    values = {region: tuple(found[region]) for region in display_order(found)}
    predicted = np.zeros_like(reference.labels) if prediction is None else prediction.labels
    return CaseMasks(
        {region: np.isin(predicted, labels) for region, labels in values.items()},
        {region: np.isin(reference.labels, labels) for region, labels in values.items()},
        reference.affine,
        (frozenset() if prediction is None else prediction.values, reference.values),
    )


def mixed_labels(cases: Sequence[CaseFiles], found: Sequence[tuple[frozenset[int], frozenset[int]]]) -> str | None:
    """The error message if some files have label 3 and others 4, which may be different tissues; None otherwise.

    `found` has `CaseMasks.labels` of each case.
    """
    for position, kind in enumerate(("prediction", "reference")):
        first: dict[int, Path] = {}
        for files, labels in zip(cases, found, strict=True):
            for label in labels[position] & {3, 4}:
                first.setdefault(label, getattr(files, kind))
        if len(first) == 2:
            return f"{first[4]}: label 4, while {first[3]} has 3; expected one of them for enhancing tumour in all"
    return None


def _pair(files: CaseFiles, convention: str) -> tuple[_LabelMap, _LabelMap | None]:
    reference = _read(files.reference, convention)
    if files.prediction is None:
        return reference, None
    prediction = _read(files.prediction, convention)
    ours, expected = ((found.labels.shape, found.affine) for found in (prediction, reference))
    raise_problem(grid_problem(str(files.prediction), ours, expected, "the reference"))
    return reference, prediction


def _read(path: Path, convention: str) -> _LabelMap:
    file, conventions = str(path), alike(convention)
    scan, voxels = read_scan(file)
    found, _ = label_counts(voxels)
    raise_problem(label_problem(file, found, conventions))
    values = whole_labels(found)
    labels = voxels if voxels.dtype == np.uint8 else np.rint(voxels).astype(np.uint8)
    for value, other in aliases_of(conventions).items():
        if value in values:
            labels = np.where(labels == value, np.uint8(other), labels)
    return _LabelMap(labels, values, scan.affine)
