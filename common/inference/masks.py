"""Read the masks of a case: prediction and reference, on one grid, with known labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data.headers import AFFINE_TOLERANCE, broken_file
from ..data.regions import aliases_of, alike, display_order, known_labels, regions_of
from ..errors import InputError, shortened
from ..metrics.measures import spacing_of
from .results import CaseFiles

__all__ = ["CaseMasks", "labels_of", "masks_of", "mixed_labels"]

INTEGER_TOLERANCE = 1e-5  # of a label: a header's scale factor is in single precision


class CaseMasks(NamedTuple):
    """Masks [x, y, z] by region, in display order, and the affine [4, 4] of the reference."""

    predictions: dict[str, NDArray[np.bool_]]
    references: dict[str, NDArray[np.bool_]]
    affine: NDArray[np.float64]


class _LabelMap(NamedTuple):
    labels: NDArray[np.uint8]  # [x, y, z]; 4 of brats2021 has become 3
    values: frozenset[int]  # as stored in the file
    affine: NDArray[np.float64]


def masks_of(files: CaseFiles, convention: str) -> CaseMasks:
    """Read the regions of a case; in an absent prediction all of them are empty.

    Trailing axes of length 1 are dropped. brats2021 and brats2023 are read alike: enhancing tumour is 3 or 4.

    Args:
        files: of the case.
        convention: label convention of the label maps.

    Raises:
        InputError: a file cannot be read to its end or is not 3D; a voxel is not a real number, is NaN, infinite or
            not a whole number; a file has labels that the convention does not know, or both 3 and 4; header and affine
            disagree on the spacing; prediction and reference differ in shape, or in affine by more than 0.001 mm.
    """
    reference, prediction = _pair(files, convention)
    found = regions_of(alike(convention)[0])
    values = {region: tuple(found[region]) for region in display_order(found)}
    predicted = np.zeros_like(reference.labels) if prediction is None else prediction.labels
    return CaseMasks(
        {region: np.isin(predicted, labels) for region, labels in values.items()},
        {region: np.isin(reference.labels, labels) for region, labels in values.items()},
        reference.affine,
    )


def labels_of(files: CaseFiles, convention: str) -> tuple[frozenset[int], frozenset[int]]:
    """The label values in the prediction and the reference of a case, as stored; errors are those of `masks_of`."""
    reference, prediction = _pair(files, convention)
    return frozenset() if prediction is None else prediction.values, reference.values


def mixed_labels(cases: Sequence[CaseFiles], found: Sequence[tuple[frozenset[int], frozenset[int]]]) -> str | None:
    """The error message if some files have label 3 and others 4, which may be different tissues; None if not.

    Args:
        cases: files of each case.
        found: what `labels_of` returns for each case.
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
    shape, expected = (" x ".join(map(str, found.labels.shape)) for found in (prediction, reference))
    if shape != expected:
        raise InputError(f"{files.prediction}: shape {shape}; expected the reference's, {expected}")
    if not np.allclose(prediction.affine, reference.affine, rtol=0, atol=AFFINE_TOLERANCE):
        off = np.abs(prediction.affine - reference.affine).max()
        raise InputError(
            f"{files.prediction}: affine differs from the reference's by up to {off:.3g}; expected the same grid"
        )
    return reference, prediction


def _read(file: Path, convention: str) -> _LabelMap:
    import nibabel  # here, as it is slow to import

    broken = broken_file([file])
    if broken is not None:
        raise InputError(f"{file}: {broken[1]}; expected a NIfTI file that can be read to its end")
    scan: Any = nibabel.load(file)
    shape = tuple(scan.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3 or 0 in shape:
        raise InputError(f"{file}: shape {' x '.join(map(str, scan.shape))}; expected three dimensions")
    if scan.get_data_dtype().kind not in "biuf":
        raise InputError(f"{file}: voxels of type {scan.get_data_dtype()}; expected whole numbers")
    _check_affine(file, scan)
    voxels = np.asanyarray(scan.dataobj).reshape(shape)
    conventions = alike(convention)
    values = _values(file, voxels, conventions)
    labels = voxels if voxels.dtype == np.uint8 else np.rint(voxels).astype(np.uint8)
    for value, other in aliases_of(conventions).items():
        if value in values:
            labels = np.where(labels == value, np.uint8(other), labels)
    return _LabelMap(labels, values, scan.affine)


def _check_affine(file: Path, scan: Any) -> None:
    affine = scan.affine
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine)) < 1e-9:
        raise InputError(f"{file}: an affine that cannot be inverted; expected one that maps voxels to mm")
    zooms, edges = scan.header.get_zooms()[:3], spacing_of(affine)
    if not np.allclose(zooms, edges, rtol=0, atol=AFFINE_TOLERANCE):
        of_header, of_affine = (" x ".join(f"{edge:g}" for edge in sizes) for sizes in (zooms, edges))
        raise InputError(f"{file}: voxels of {of_header} mm by pixdim; expected those of its affine, {of_affine} mm")


def _values(file: Path, voxels: NDArray[Any], conventions: Sequence[str]) -> frozenset[int]:
    """The labels in a file, all of them known to one of the conventions."""
    known = sorted(frozenset().union(*map(known_labels, conventions)))
    expected = f"labels {', '.join(map(str, known))}"
    if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
        raise InputError(
            f"{file}: {np.count_nonzero(~np.isfinite(voxels))} voxels NaN or infinite; expected {expected}"
        )
    values = np.unique(voxels[voxels != 0]).astype(np.float64)  # few voxels are not zero: fast to sort
    broken = values[np.abs(values - np.rint(values)) > INTEGER_TOLERANCE]
    if len(broken):
        raise InputError(f"{file}: value {broken[0]:g}; expected whole numbers, {expected}")
    found = frozenset(int(value) for value in np.rint(values)) | ({0} if (voxels == 0).any() else set())
    unknown = sorted(found - set(known))
    if unknown:
        raise InputError(f"{file}: label {shortened([f'{value:.15g}' for value in unknown])}; expected {expected}")
    for value, other in aliases_of(conventions).items():
        if {value, other} <= found:
            raise InputError(f"{file}: labels {other} and {value}; expected one of them for enhancing tumour")
    return found
