"""Folder layouts of the embedded cohort: grids, files and subjects, as in the real cohorts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.random import Generator

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
    files: Mapping[str, str]  # modality, in channel order -> path below the root; `{id}` is the person
    label: str | None  # path of the lesion mask in the same form
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
        images = {modality: path.format(id=person) for modality, path in self.files.items()}
        return images, None if self.label is None else self.label.format(id=person)


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


BRATS_FILE = "{id}/{id}_%s.nii.gz"
ATLAS_FILE = "{id}/ses-1/anat/{id}_ses-1_space-MNI152NLin2009aSym_%s.nii.gz"
PHANTOMS = {
    "ukb": PhantomCohort(
        shape=(182, 218, 182),
        flip=(-1, 1, 1),
        origin=(90, -126, -72),
        mni_origin=(0, 0, 0),
        files={
            "T1": "{id}_20252_2_0/T1/T1_brain_to_MNI.nii.gz",
            "FLAIR": "{id}_20253_2_0/T2_FLAIR/T2_FLAIR_brain_to_MNI.nii.gz",
        },
        label=None,
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
        files={modality: BRATS_FILE % modality.lower() for modality in ("FLAIR", "T1ce", "T1", "T2")},
        label=BRATS_FILE % "seg",
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
        files={"T1": ATLAS_FILE % "T1w"},
        label=ATLAS_FILE % "label-L_desc-T1lesion_mask",
        subject=lambda index: f"sub-r{index // SUBJECTS_PER_SITE + 1:03d}s{index % SUBJECTS_PER_SITE + 1:03d}",
        head=_head_with_strokes,
        skull_stripped=False,
        dtype=np.float32,
    ),
}
