"""Read and check the predicted and reference masks of a case."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data.regions import aliases_of, alike, display_order, regions_of
from ..data.scan_checks import check_grid, labels_in, read_scan, warn_of_orientation
from ..errors import InputError
from ..metrics.measures import spacing_of
from .results import CaseFiles, Details


class CaseMasks(NamedTuple):
    """Masks [x, y, z] by region, in display order, on the grid of the reference.

    A missing prediction gives empty masks.
    """

    predictions: dict[str, NDArray[np.bool_]]
    references: dict[str, NDArray[np.bool_]]
    affine: NDArray[np.float64]


def masks_of(files: CaseFiles, convention: str) -> CaseMasks:
    """Read and check the masks of a case.

    Trailing axes of length 1 are dropped. For brats2021 and brats2023, enhancing tumour may be 3 or 4, but not both.
    Raise `InputError` if a file cannot be read, has unknown labels, or is on a different grid (tolerance: 0.001 mm).
    """
    reference, affine = _read(files.reference, convention)
    prediction = np.zeros_like(reference)
    if files.prediction is not None:
        prediction, grid = _read(files.prediction, convention, may_fill=True)
        expected = reference.shape, affine
        check_grid(str(files.prediction), (prediction.shape, grid), expected, "the reference")
    labels_of = regions_of(alike(convention)[0])
    values = {region: tuple(labels_of[region]) for region in display_order(labels_of)}
    predicted, true = (
        {region: np.isin(volume, labels) for region, labels in values.items()} for volume in (prediction, reference)
    )
    return CaseMasks(predicted, true, affine)


def scored_masks(files: CaseFiles, details: Details) -> CaseMasks:
    """Return the masks of a scored case; raise `InputError` if a region's volume has changed since the scoring."""
    masks = masks_of(files, details.convention)
    voxel = math.prod(spacing_of(masks.affine))
    for region, scored in details.scores[files.name].items():
        layers = (files.prediction, masks.predictions), (files.reference, masks.references)
        for (file, regions), volume in zip(layers, scored.volumes, strict=True):
            mm3 = voxel * np.count_nonzero(regions[region])
            if not math.isclose(mm3, volume, rel_tol=1e-4, abs_tol=voxel / 2):
                had = f"had {volume:.6g} mm3 when scored"
                raise InputError(f"{file}: {region} has {mm3:.6g} mm3 but {had}; restore the file or evaluate again")
    return masks


def _read(path: Path, convention: str, may_fill: bool = False) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Read a label map [x, y, z] and its affine; replace aliases of labels."""
    file, conventions = str(path), alike(convention)
    scan, voxels = read_scan(file)
    warn_of_orientation(file, scan)
    labels_in(file, voxels, conventions, may_fill)
    labels = voxels if voxels.dtype == np.uint8 else np.rint(voxels).astype(np.uint8)
    for value, other in aliases_of(conventions).items():
        labels = np.where(labels == value, np.uint8(other), labels)
    return labels, scan.affine
