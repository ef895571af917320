"""Likely causes of figures outside their limits, each with the measure that supports it and the way out."""

from collections.abc import Callable, Iterator
from functools import cache
from itertools import permutations, product

import nibabel
import numpy as np
from numpy.typing import NDArray

from ..metrics.measures import dice
from .figures import LIMITS, Figures
from .registration import coarse_grid, information
from .resampling import resample
from .targets import template_brain, template_mask
from .volumes import Grid, Volume

Matrix = NDArray[np.float64]
Alignment = Callable[[Volume, NDArray[np.bool_]], Matrix]  # of a scan and its brain: from MNI space to the scan
EDGE = 4.0  # mm; voxels for comparing orientations
REGISTERED = 3  # orientations, of the 23 that a header may not state
CLEARER = 1.3  # least ratio of `information` in the right orientation and in the header's


def likely_cause(scan: Volume, figures: Figures, is_stripped: bool, align: Alignment) -> str:
    """The likely cause of figures outside their limits, in a phrase; "" without evidence. `scan` is the reference."""
    limits, least = LIMITS["subject"], LIMITS["reference"]
    shown = {name: values["coverage"] for name, values in figures.modalities.items()}
    worst = min(shown, key=lambda name: shown[name])
    if shown[worst] < least["coverage"][0]:
        return f"a cut field of view: {1 - shown[worst]:.0%} of the brain lies outside that of {worst}"
    if figures.subject["overlap"] < limits["overlap"][0] or (
        figures.modalities[figures.reference]["information"] < least["information"][0]
    ):
        stripped = "a brain that was extracted badly before: it has no skull; give the raw scan" if is_stripped else ""
        return orientation_cause(scan, align) or stripped
    if figures.subject["volume"] < limits["volume"][0]:
        volume = f"a brain of {figures.subject['volume']:.0f} mL in an adult's shape"
        return f"a child: {volume}; give masks by HD-BET or SynthStrip as --brain"
    return ""


def orientation_cause(scan: Volume, align: Alignment) -> str:
    """Whether a scan fits the template in none of its orientations, or better in another than the header's; else ""."""
    stated, best, axes = orientations(scan, align)
    if max(stated, best) < LIMITS["reference"]["information"][0]:
        return f"not a T1 of a head: information with the template {max(stated, best):.3f} in every orientation"
    if best > CLEARER * stated:
        values = f"information with the template {stated:.3f}, but {best:.3f} with its axes towards {axes}"
        return f"a header turned against the data: {values}; give the scan with the scanner's header"
    return ""


def orientations(scan: Volume, align: Alignment) -> tuple[float, float, str]:
    """`information` with the template as the header states, and in the best other orientation, with its axes' names.

    The names are those of `nibabel.aff2axcodes`. Turns are tried, no mirrorings: a brain is nearly symmetric.
    """
    fits = sorted((_fit(scan, turn) for turn in _turns()), key=lambda fit: -fit[0])[:REGISTERED]
    grid, inside, template = _template()
    shared = []
    for turn in (np.eye(3), *(turn for _, turn in fits)):
        placed, brain = _turned(scan, turn)
        matrix = align(placed, brain) if brain.any() else np.eye(4)
        shared.append((information(resample(placed, grid, matrix).array[inside], template), _axes(scan, turn)))
    return shared[0][0], *max(shared[1:])


@cache
def _template() -> tuple[Grid, NDArray[np.bool_], NDArray[np.float32]]:
    """The template's coarse grid, its brain there, and the intensities within."""
    grid, inside = coarse_grid(template_brain(), template_mask().array > 0, EDGE)
    return grid, inside, resample(template_brain(), grid).array[inside]


def _turns() -> Iterator[Matrix]:
    """The 23 turns by right angles."""
    for axes, signs in product(permutations(range(3)), product((1, -1), repeat=3)):
        turn = np.eye(3)[list(axes)] * np.array(signs)[:, None]
        if np.linalg.det(turn) > 0 and not np.array_equal(turn, np.eye(3)):
            yield turn


def _axes(scan: Volume, turn: Matrix) -> str:
    """Where the voxel axes of a turned scan lead to."""
    return "".join(nibabel.aff2axcodes(_place(turn) @ scan.affine))


def _place(turn: Matrix) -> Matrix:
    affine = np.eye(4)
    affine[:3, :3] = turn
    return affine


def _turned(scan: Volume, turn: Matrix) -> tuple[Volume, NDArray[np.bool_]]:
    """A turned scan and its brain, as deepbet's first network sees it."""
    import torch

    from ..data.intensities import rough_brain  # late imports, which only refusals need

    image = nibabel.as_closest_canonical(nibabel.Nifti1Image(scan.array, _place(turn) @ scan.affine))
    voxels = np.ascontiguousarray(image.dataobj, np.float32)
    return Volume(voxels, image.affine), rough_brain(torch.from_numpy(voxels)).numpy()


def _fit(scan: Volume, turn: Matrix) -> tuple[float, Matrix]:
    """Dice of a turned scan's brain and the template's, brought to its centre and volume; with the turn."""
    placed, brain = _turned(scan, turn)
    grid, inside, _ = _template()
    if not brain.any():
        return 0.0, turn
    scale = (brain.sum() * placed.voxel_volume / (inside.sum() * EDGE**3 / 1000)) ** (1 / 3)
    matrix = np.diag([scale, scale, scale, 1])
    first, second = (
        (affine @ [*np.argwhere(mask).mean(axis=0), 1])[:3]
        for affine, mask in ((grid.affine, inside), (placed.affine, brain))
    )
    matrix[:3, 3] = second - scale * first
    return dice(resample(Volume(brain, placed.affine), grid, matrix).array > 0.5, inside), turn
