"""Read and check the masks of a case: prediction and reference."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data.regions import aliases_of, alike, display_order, regions_of
from ..data.scan_checks import grid_problem, label_counts, label_problem, raise_problem, read_scan, whole_labels
from ..errors import InputError
from ..metrics.measures import spacing_of
from .results import CaseFiles, Details


class CaseMasks(NamedTuple):
    """Masks [x, y, z] by region, in display order, on the grid of the reference.

    Without a prediction, its masks are empty.
    """

    predictions: dict[str, NDArray[np.bool_]]
    references: dict[str, NDArray[np.bool_]]
    affine: NDArray[np.float64]


def masks_of(files: CaseFiles, convention: str) -> CaseMasks:
    """Read and check a case's regions.

    Trailing axes of length 1 are dropped. brats2021 and brats2023 are read alike: enhancing tumour is 3 or 4, but not
    both. Unreadable files, unknown labels and different grids (affines by more than 0.001 mm) raise `InputError`.
    """
    reference, affine = _read(files.reference, convention)
    prediction = np.zeros_like(reference)
    if files.prediction is not None:
        prediction, own = _read(files.prediction, convention, may_fill=True)
        expected = reference.shape, affine
        raise_problem(grid_problem(str(files.prediction), (prediction.shape, own), expected, "the reference"))
    found = regions_of(alike(convention)[0])
    values = {region: tuple(found[region]) for region in display_order(found)}
    predicted, true = (
        {region: np.isin(volume, labels) for region, labels in values.items()} for volume in (prediction, reference)
    )
    return CaseMasks(predicted, true, affine)


def scored_masks(files: CaseFiles, details: Details) -> CaseMasks:
    """The masks of a scored case; a file with other volumes than the scored ones raises `InputError`."""
    masks = masks_of(files, details.convention)
    voxel = math.prod(spacing_of(masks.affine))
    for region, scored in details.scores[files.name].items():
        layers = (files.prediction, masks.predictions), (files.reference, masks.references)
        for (file, found), volume in zip(layers, scored.volumes, strict=True):
            now = voxel * np.count_nonzero(found[region])
            if not math.isclose(now, volume, rel_tol=1e-4, abs_tol=voxel / 2):
                raise InputError(f"{file}: {now:.6g} mm3 of {region}; expected {volume:.6g}, the file that was scored")
    return masks


def _read(path: Path, convention: str, may_fill: bool = False) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Labels [x, y, z] with their aliases replaced, and affine of a label map."""
    file, conventions = str(path), alike(convention)
    scan, voxels = read_scan(file)
    found, _ = label_counts(voxels)
    raise_problem(label_problem(file, found, conventions, may_fill))
    values = whole_labels(found)
    labels = voxels if voxels.dtype == np.uint8 else np.rint(voxels).astype(np.uint8)
    for value, other in aliases_of(conventions).items():
        if value in values:
            labels = np.where(labels == value, np.uint8(other), labels)
    return labels, scan.affine
