"""Heads, grids and files of the embedded cohort, as `common.data.cohorts.COHORTS` defines them."""

import numpy as np
from numpy.random import Generator

from common.data.cards import Cohort
from common.data.layouts.names import LABEL
from scripts.phantoms.anatomy import (
    VENTRICLES,
    Head,
    PhantomGrid,
    Swelling,
    add_glioma,
    add_strokes,
    hyperintensities,
    make_head,
    seed_points,
)


def _aged_head(rng: Generator, grid: PhantomGrid, skull_stripped: bool) -> Head:
    age = rng.uniform()  # from 0 (45 years) to 1 (80 years), the range in UK Biobank's imaging
    ventricles = Swelling(VENTRICLES, (26.0, 42.0, 26.0), -0.1 + 0.45 * age + rng.normal(0, 0.04))
    head = make_head(rng, grid, [ventricles], skull_stripped)
    head.replace("WMH", hyperintensities(rng, head, age))
    return head


def _head_with_glioma(rng: Generator, grid: PhantomGrid, skull_stripped: bool) -> Head:
    centre = seed_points(rng, grid.spacing, 1, (14, 60), white=True)
    second = centre + rng.normal(0, 1, (1, 3)).astype(np.float32) * 14
    foci = np.concatenate([centre, second]) if rng.random() < 0.3 else centre
    mass_effect = Swelling(centre[0], (32.0, 32.0, 32.0), rng.uniform(0.1, 0.3))
    head = make_head(rng, grid, [mass_effect], skull_stripped)
    add_glioma(rng, head, foci)
    return head


def _head_with_strokes(rng: Generator, grid: PhantomGrid, skull_stripped: bool) -> Head:
    ventricles = Swelling(VENTRICLES, (26.0, 42.0, 26.0), rng.uniform(0, 0.3))
    head = make_head(rng, grid, [ventricles], skull_stripped)
    first = seed_points(rng, grid.spacing, 1, (6, 40), white=False)
    lacunes = seed_points(rng, grid.spacing, rng.poisson(0.7), (10, 60), white=True)
    add_strokes(rng, head, np.concatenate([first, lacunes]))
    return head


HEADS = {
    "aged": _aged_head,
    "glioma": _head_with_glioma,
    "strokes": _head_with_strokes,
}  # values of `Cohort.head`


def grid_of(cohort: Cohort, spacing: float) -> PhantomGrid:
    """Return the grid of a cohort's heads, with voxels of `spacing` mm; its affine maps voxels to MNI space."""
    return PhantomGrid(cohort.space.edges(spacing), spacing, cohort.space.to_mni() @ cohort.space.affine(spacing))


def files_of(cohort: Cohort, index: int) -> tuple[dict[str, str], str | None]:
    """Return a synthetic person's image paths by modality, and the path of the label map, if any."""
    fields = cohort.phantom(index)
    files = {kind: f"{text.format(**fields)}.nii.gz" for kind, text in cohort.layouts[0].files.items()}
    label = files.pop(LABEL, None)
    return files, label
