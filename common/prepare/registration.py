"""Rigid and affine registration of head scans by ANTs (Avants et al., NeuroImage 2011) from several starts.

A matrix [4, 4] maps mm of the fixed scan to mm of the moving scan, RAS+, as resampling needs it.
"""

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813, the field's name for it
from numpy.typing import NDArray

from .resampling import resample
from .volumes import Grid, Volume, matrix_of, to_image, upright

KINDS = {6: "Rigid", 12: "Affine"}
EDGE = 2.0  # mm; voxels for measuring similarity
FINEST = 1.0  # mm; ANTs' finest voxels
BINS = 48  # of the joint histogram
SAMPLED = 0.3  # share of the voxels
SHRINKING = (6, 4, 2, 1)  # ANTs' default shrink factors
SMOOTHING = (3, 2, 1, 0)  # ANTs' default standard deviations, voxels
COARSE: dict[str, Any] = {"aff_shrink_factors": (6, 4), "aff_iterations": (2100, 1200)}
COARSEST = 8.0  # mm; largest voxels of a level
FIXED_SEED = {"ANTS_RANDOM_SEED": "1", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1"}  # makes results reproducible
Matrix = NDArray[np.float64]


def register(fixed: Volume, moving: Volume, dof: int, mask: NDArray[np.bool_], starts: Sequence[Matrix] = ()) -> Matrix:
    """The position of highest mutual information within a mask of the fixed scan: ANTs' result or a start.

    From each start ANTs first registers the whole scans coarsely, to recover from large offsets, and then refines the
    best position within the mask. The result is never less similar than the position in the headers.
    """
    grid, inside = coarse_grid(fixed, mask)
    coarse = resample(fixed, grid)

    def similarity(matrix: Matrix) -> float:
        return information(coarse.array[inside], resample(moving, grid, matrix).array[inside])

    known = [np.eye(4), *starts]
    known += [_by_ants(coarse, moving, 6, start, **COARSE) for start in known]
    best = max(known, key=similarity)
    fine_grid, within = coarse_grid(fixed, mask, FINEST)
    return max(best, _by_ants(resample(fixed, fine_grid), moving, dof, best, within), key=similarity)


def coarse_grid(fixed: Volume, mask: NDArray[np.bool_], edge: float = EDGE) -> tuple[Grid, NDArray[np.bool_]]:
    """The grid of a scan with voxels of at least `edge` mm, and its mask on that grid."""
    edges = np.maximum(fixed.spacing, edge)
    factors = edges / fixed.spacing
    affine = fixed.affine @ np.diag([*factors, 1])
    affine[:3, 3] = (fixed.affine @ [*((factors - 1) / 2), 1])[:3]
    x, y, z = np.maximum(1, np.array(fixed.array.shape) // factors).astype(int)
    grid = Grid((x, y, z), affine)
    return grid, resample(Volume(mask, fixed.affine), grid).array > 0.5


def _by_ants(
    fixed: Volume, moving: Volume, dof: int, start: Matrix, mask: NDArray[np.bool_] | None = None, **levels: Any
) -> Matrix:
    """ANTs' result from a start, or the start if ANTs finds no overlap.

    The start is written into the header of the moving scan. Scans are smoothed by mm, not by voxels, which in slices of
    3 mm took ANTs away from a good start.
    """
    ants = _ants()
    placed = Volume(moving.array, np.linalg.inv(start) @ moving.affine)
    edge = float(fixed.spacing.min())
    most = max(1, round(COARSEST / edge))
    settings = {"aff_shrink_factors": tuple(min(factor, most) for factor in SHRINKING)} | levels
    with TemporaryDirectory() as folder:
        try:
            found = ants.registration(
                _image(fixed),
                _image(placed),
                KINDS[dof],
                initial_transform="Identity",
                outprefix=str(Path(folder, "ants")),
                mask=None if mask is None else _image(Volume(mask, fixed.affine)),
                aff_random_sampling_rate=SAMPLED,
                aff_smoothing_sigmas=tuple(edge * width for width in SMOOTHING[: len(settings["aff_shrink_factors"])]),
                smoothing_in_mm=True,
                **settings,
            )
        except RuntimeError:
            return start
        transform = ants.read_transform(found["fwdtransforms"][0])
    return start @ _shear(placed) @ matrix_of(transform.apply_to_point) @ np.linalg.inv(_shear(fixed))


@cache
def _ants() -> Any:
    """ANTs, imported late: the import takes seconds and reads the environment."""
    os.environ.update(FIXED_SEED)
    import ants

    return ants


def _shear(volume: Volume) -> Matrix:
    """From mm of the image that ANTs gets to mm of the volume."""
    return np.asarray(volume.affine @ np.linalg.inv(upright(volume.affine)))


def _image(volume: Volume) -> Any:
    like = to_image(Volume(np.broadcast_to(np.uint8(0), volume.array.shape), volume.affine))
    direction = np.reshape(like.GetDirection(), (3, 3))
    return _ants().from_numpy(volume.array.astype(np.float32), like.GetOrigin(), like.GetSpacing(), direction)


def between_centres(
    fixed: Volume, inside: NDArray[np.bool_], moving: Volume, other: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """A start: the translation from the centre of the fixed scan's mask to that of the moving scan's."""
    start = np.eye(4)
    start[:3, 3] = _centre(moving.affine, other) - _centre(fixed.affine, inside)
    return start


def _centre(affine: NDArray[np.float64], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.asarray((affine @ [*np.argwhere(mask).mean(axis=0), 1])[:3])


def foreground(scan: Volume) -> NDArray[np.bool_]:
    """The voxels of a head above Otsu's threshold."""
    return np.asarray(sitk.GetArrayFromImage(sitk.OtsuThreshold(to_image(scan), 0, 1, 128)).T > 0)


def information(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Mutual information divided by the mean entropy: 0 if independent, 1 if one image determines the other.

    Intensities are binned between percentiles 1 and 99. A constant image gives 0.
    """
    edges = [np.percentile(values, (1, 99)) for values in (one, other)]
    if any(high <= low for low, high in edges):
        return 0.0
    first, second = (np.clip(values, *limits) for values, limits in zip((one, other), edges, strict=True))
    joint = np.histogram2d(first, second, bins=BINS)[0]
    joint /= joint.sum()
    entropies = [_entropy(joint.sum(axis=axis)) for axis in (0, 1)]
    return float((sum(entropies) - _entropy(joint.ravel())) / np.mean(entropies))


def _entropy(shares: NDArray[np.float64]) -> float:
    positive = shares[shares > 0]
    return float(-(positive * np.log(positive)).sum())
