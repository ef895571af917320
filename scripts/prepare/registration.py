"""Rigid and affine registration of head scans by ANTs (Avants et al., NeuroImage 2011) from several starting positions.

A matrix [4, 4] maps mm of the fixed scan to mm of the moving scan, RAS+, as resampling requires.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813, the field's name for it
from nibabel.affines import apply_affine, from_matvec
from numpy.typing import NDArray
from scipy.ndimage import center_of_mass
from scipy.special import entr

from common.errors import InputError
from scripts.prepare.volumes import FLIP, Grid, Volume, mask_on, resample, upright

KINDS = {6: "Rigid", 12: "Affine"}
EDGE = 2.0  # mm; voxel size for measuring similarity
FINEST = 1.0  # mm; finest voxel size for ANTs
BINS = 48  # per axis of the joint histogram
SAMPLED = 0.3  # fraction of voxels that ANTs samples
COARSEST = 8.0  # mm; fine levels have voxels of about this size at most
FIXED_SEED = {"ANTS_RANDOM_SEED": "1", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1"}  # makes results reproducible
Matrix = NDArray[np.float64]
Levels = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]  # shrink factors, smoothing in voxels, iterations
# ANTs' defaults, in two passes, but for shrink factor 2: the default, 1200 iterations, moved FLAIR by at most 0.03 mm
COARSE: Levels = ((6, 4), (3, 2), (2100, 1200))
FINE: Levels = ((4, 2, 1), (2, 1, 0), (1200, 10, 10))


def register(fixed: Volume, moving: Volume, dof: int, mask: NDArray[np.bool_], starts: Sequence[Matrix] = ()) -> Matrix:
    """Register two scans: return the matrix with the highest mutual information within a mask of the fixed scan.

    From the identity and each start, ANTs first registers the whole scans coarsely and rigidly, to recover from large
    offsets. ANTs then refines the best matrix within the mask, with `dof` degrees of freedom (6 or 12). The result has
    at least the mutual information of every start. Raises InputError if ANTs cannot refine the best matrix.
    """
    coarse, coarse_moving = (resample(scan, coarse_grid(scan)) for scan in (fixed, moving))
    brain = Volume(mask, fixed.affine)
    inside = mask_on(brain, coarse.grid)

    def similarity(matrix: Matrix) -> float:
        return information(coarse.array[inside], resample(moving, coarse.grid, matrix).array[inside])

    candidates = [np.eye(4), *starts]
    for start in [*candidates]:
        with suppress(RuntimeError):  # the scans may not overlap at this start
            candidates.append(_by_ants(coarse, coarse_moving, 6, start, COARSE))
    best = max(candidates, key=similarity)
    fine = resample(fixed, coarse_grid(fixed, FINEST))
    within = mask_on(brain, fine.grid)
    most = max(1, round(COARSEST / fine.spacing.min()))
    shrinking, smoothing, iterations = FINE
    levels = tuple(min(factor, most) for factor in shrinking), smoothing, iterations
    try:
        refined = _by_ants(fine, moving, dof, best, levels, within)
    except RuntimeError as error:
        raise InputError("registration: ANTs failed; expected overlapping scans of the same head") from error
    return max(best, refined, key=similarity)


def coarse_grid(scan: Volume, edge: float = EDGE) -> Grid:
    """Return a scan's grid, coarsened to voxels of at least `edge` mm."""
    edges = np.maximum(scan.spacing, edge)
    factors = edges / scan.spacing
    affine = scan.affine @ np.diag([*factors, 1])
    affine[:3, 3] = apply_affine(scan.affine, (factors - 1) / 2)
    x, y, z = np.maximum(1, np.array(scan.array.shape) // factors).astype(int)
    return Grid((x, y, z), affine)


def _by_ants(
    fixed: Volume, moving: Volume, dof: int, start: Matrix, levels: Levels, mask: NDArray[np.bool_] | None = None
) -> Matrix:
    """Register by ANTs, starting from a matrix; raise RuntimeError if ANTs fails, for example without overlap.

    The start goes into the moving scan's header. Smoothing is in mm, because with smoothing in voxels, ANTs moved away
    from good starts on slices of 3 mm.
    """
    ants = _ants()
    shrinking, smoothing, iterations = levels
    placed = Volume(moving.array, np.linalg.inv(start) @ moving.affine)
    with TemporaryDirectory() as folder:
        registered = ants.registration(
            _image(fixed),
            _image(placed),
            KINDS[dof],
            initial_transform="Identity",
            outprefix=str(Path(folder, "ants")),
            mask=None if mask is None else _image(Volume(mask, fixed.affine)),
            aff_random_sampling_rate=SAMPLED,
            aff_shrink_factors=shrinking,
            aff_smoothing_sigmas=tuple(width * float(fixed.spacing.min()) for width in smoothing),
            smoothing_in_mm=True,
            aff_iterations=iterations,
        )
        transform = ants.read_transform(registered["fwdtransforms"][0])
    offset = np.array(transform.apply_to_point((0.0, 0.0, 0.0)))
    linear = np.column_stack([np.array(transform.apply_to_point(axis)) - offset for axis in np.eye(3).tolist()])
    return start @ _shear(placed) @ FLIP @ from_matvec(linear, offset) @ FLIP @ np.linalg.inv(_shear(fixed))


@cache
def _ants() -> Any:
    """Import ANTs late: the import takes seconds, and it reads the environment."""
    os.environ.update(FIXED_SEED)
    import ants

    return ants


def _shear(volume: Volume) -> Matrix:
    """Return the matrix from mm of the ANTs image, which cannot have shear, to mm of the volume."""
    return np.asarray(volume.affine @ np.linalg.inv(upright(volume.affine)))


def _image(volume: Volume) -> Any:
    """Convert a volume to an ANTs image; shear is removed from its affine (`upright`)."""
    lps, spacing = FLIP @ upright(volume.affine), volume.spacing
    placed = lps[:3, 3].tolist(), spacing.tolist(), lps[:3, :3] / spacing
    return _ants().from_numpy(volume.array.astype(np.float32), *placed)


def between_centres(fixed: Volume, fixed_mask: NDArray[np.bool_], moving: Volume, mask: NDArray[np.bool_]) -> Matrix:
    """Return a matrix to start from: the translation from the fixed mask's centre to the moving mask's centre."""
    start = np.eye(4)
    start[:3, 3] = apply_affine(moving.affine, center_of_mass(mask))
    start[:3, 3] -= apply_affine(fixed.affine, center_of_mass(fixed_mask))
    return start


def to_itk(array: NDArray[Any], dtype: type | None = None) -> sitk.Image:
    """Convert an array [x, y, z] to an ITK image with voxels of 1 mm."""
    return sitk.GetImageFromArray(np.ascontiguousarray(array.T, dtype))


def foreground(scan: Volume) -> NDArray[np.bool_]:
    """Return a mask of the voxels above Otsu's threshold."""
    return np.asarray(sitk.GetArrayFromImage(sitk.OtsuThreshold(to_itk(scan.array), 0, 1, 128)).T > 0)


def information(fixed: NDArray[Any], moving: NDArray[Any]) -> float:
    """Return the normalized mutual information of two images: 0 if independent, 1 if they determine each other.

    The mutual information is divided by the mean entropy. Intensities are binned between percentiles 1 and 99. A
    constant image gives 0.
    """
    edges = [np.percentile(values, (1, 99)) for values in (fixed, moving)]
    if any(high <= low for low, high in edges):
        return 0.0
    first, second = (np.clip(values, *limits) for values, limits in zip((fixed, moving), edges, strict=True))
    joint = np.histogram2d(first, second, bins=BINS)[0]
    joint /= joint.sum()
    entropies = [entr(joint.sum(axis=axis)).sum() for axis in (0, 1)]
    return float((sum(entropies) - entr(joint).sum()) / np.mean(entropies))
