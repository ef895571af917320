"""Folder layouts of the embedded cohort: grids, files and subjects, as in the real cohorts."""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.random import Generator

from common.data.layouts.cohorts import COHORTS, FileLayout
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

SUBJECTS_PER_SITE = 4  # in the ATLAS layout


@dataclass(frozen=True)
class PhantomCohort:
    """A cohort's grid, files and type of subject."""

    shape: tuple[int, int, int]  # voxels at 1 mm
    flip: tuple[int, int, int]  # direction of each voxel axis in RAS+: 1 or -1
    origin: tuple[float, float, float]  # world position of the first voxel, mm
    mni_origin: tuple[float, float, float]  # world position of MNI space's origin, mm
    layout: FileLayout
    visit: str | None  # of the layout's templates; None if the person's name is the visit's
    subject: Callable[[int], str]  # index -> id of a person
    head: Callable[[Generator, PhantomGrid, bool], Head]
    skull_stripped: bool  # as the real cohort
    dtype: type[np.generic]  # of voxels on disk

    def affine(self, spacing: float) -> np.ndarray:
        """Voxel to world space, 4 x 4, mm."""
        affine = np.diag([*(spacing * np.array(self.flip)), 1.0])
        affine[:3, 3] = self.origin
        return affine

    def grid(self, spacing: float) -> PhantomGrid:
        """The grid at a spacing in mm, in MNI space."""
        affine = self.affine(spacing)
        affine[:3, 3] -= self.mni_origin
        x, y, z = (ceil(size / spacing) for size in self.shape)
        return PhantomGrid((x, y, z), spacing, affine)

    def files_of(self, index: int) -> tuple[dict[str, str], str | None]:
        """A person's image paths by modality, and the mask's path, if any."""
        person = self.subject(index)
        fields = {"person": person, "visit": self.visit or person, "above": "", "session": "1"}
        files = {kind: f"{template.fill(fields)}.nii.gz" for kind, template in self.layout.templates.items()}
        label = files.pop(LABEL, None)
        return files, label


def _aged_head(rng: Generator, grid: PhantomGrid, skull_stripped: bool) -> Head:
    age = rng.uniform()  # from 0 (45 years) to 1 (80 years), the range of UK Biobank's imaging
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


PHANTOMS = {
    "ukb": PhantomCohort(
        shape=(182, 218, 182),
        flip=(-1, 1, 1),
        origin=(90, -126, -72),
        mni_origin=(0, 0, 0),
        layout=COHORTS["ukb"][0],
        visit="2_0",
        subject=lambda index: str(1000012 + 37 * index),
        head=_aged_head,
        skull_stripped=True,
        dtype=np.int16,
    ),
    "brats": PhantomCohort(
        shape=(240, 240, 155),
        flip=(-1, -1, 1),
        origin=(0, 239, 0),
        mni_origin=(-120, 137, 72),
        layout=COHORTS["brats"][0],
        visit=None,
        subject=lambda index: f"BraTS2021_{index:05d}",
        head=_head_with_glioma,
        skull_stripped=True,
        dtype=np.int16,
    ),
    "atlas": PhantomCohort(
        shape=(197, 233, 189),
        flip=(1, 1, 1),
        origin=(-98, -134, -72),
        mni_origin=(0, 0, 0),
        layout=COHORTS["atlas"][0],
        visit=None,
        subject=lambda index: f"sub-r{index // SUBJECTS_PER_SITE + 1:03d}s{index % SUBJECTS_PER_SITE + 1:03d}",
        head=_head_with_strokes,
        skull_stripped=False,
        dtype=np.float32,
    ),
}
