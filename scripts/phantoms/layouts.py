"""The folder layouts of the embedded cohort: grids, files and kinds of subject, as in the real cohorts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import ceil

import numpy as np
from numpy.random import Generator

from common.data.regions import regions_of
from scripts.phantoms.anatomy import (
    VENTRICLES,
    Grid,
    Head,
    Swelling,
    add_glioma,
    add_hyperintensities,
    add_strokes,
    make_head,
    seed_points,
)

__all__ = ["LAYOUTS", "Case", "Layout"]

SUBJECTS_PER_SITE = 4  # of the ATLAS layout


@dataclass(frozen=True)
class Case:
    """The files of one subject, that is, of one visit of a person.

    Attributes:
        person: name of the person.
        subject: name of the visit.
        images: modality -> path below the cohort's root, in channel order.
        label: path of the mask, if there is one.
        enhancing: label value of enhancing tumour, 3 or 4; 0 in a cohort without tumours.
    """

    person: str
    subject: str
    images: Mapping[str, str]
    label: str | None = None
    enhancing: int = 0

    @property
    def files(self) -> list[str]:
        """All files, images first."""
        return [*self.images.values(), *([self.label] if self.label else [])]

    @property
    def first(self) -> str:
        """The first image."""
        return next(iter(self.images.values()))

    @property
    def last(self) -> str:
        """The last image."""
        return list(self.images.values())[-1]

    @property
    def second(self) -> str:
        """A file on the first image's grid: the last image, or the mask if there is only one image."""
        return self.last if len(self.images) > 1 else self.label or self.last

    @property
    def mask(self) -> str:
        """The mask of a case that has one."""
        assert self.label is not None
        return self.label


@dataclass(frozen=True)
class Layout:
    """A cohort's grid, files and kind of subject.

    Attributes:
        shape: voxels at 1 mm.
        flip: direction of each voxel axis in world space (RAS+): 1 or -1.
        origin: world position of the first voxel, mm.
        mni_origin: world position of the origin of MNI space, mm.
        files: modality -> path below the root; `{id}` is the person, `{visit}` the visit, `{site}` R and a number,
            `{part}` Training or, for subjects without mask, Testing.
        label: path of the lesion mask in the same form, if any.
        subject: index -> id of a person.
        head: makes the anatomy; takes the generator, the grid, skull_stripped and healthy.
        disease: of the difficult heads: tumours, strokes or none (see `hard_heads.make_hard_head`).
        skull_stripped: whether the real cohort is skull-stripped.
        dtype: of the images' voxels on disk.
        convention: label convention of the masks, if there are any.
        name: of a subject, in the same form as the paths.
        visits: names of a person's first and second visit, if the layout has second visits.
    """

    shape: tuple[int, int, int]
    flip: tuple[int, int, int]
    origin: tuple[float, float, float]
    mni_origin: tuple[float, float, float]
    files: dict[str, str]
    label: str | None
    subject: Callable[[int], str]
    head: Callable[[Generator, Grid, bool, bool], Head]
    disease: str | None
    skull_stripped: bool
    dtype: type[np.generic]
    convention: str | None = None
    name: str = "{id}"
    visits: tuple[str, ...] = ("",)

    @property
    def enhancing(self) -> int:
        """Label value of enhancing tumour; 0 in a cohort without tumours."""
        regions = regions_of(self.convention) if self.convention else {}
        return min(regions.get("ET", {0}))

    def affine(self, spacing: float) -> np.ndarray:
        """Voxel to world space, 4 x 4, mm."""
        affine = np.diag([*(spacing * np.array(self.flip)), 1.0])
        affine[:3, 3] = self.origin
        return affine

    def grid(self, spacing: float) -> Grid:
        """The grid at a spacing in mm, in MNI space."""
        affine = self.affine(spacing)
        affine[:3, 3] -= self.mni_origin
        x, y, z = (ceil(size / spacing) for size in self.shape)
        return Grid((x, y, z), spacing, affine)

    def case(self, index: int, visit: int = 0, masked: bool = True) -> Case:
        """The files of a person's first (0) or second (1) visit."""
        known = {
            "id": self.subject(index),
            "visit": self.visits[visit],
            "site": f"R{_site(index):03d}",
            "part": "Training" if masked else "Testing",
        }
        return Case(
            person=self.subject(index),
            subject=self.name.format(**known),
            images={modality: path.format(**known) for modality, path in self.files.items()},
            label=self.label.format(**known) if self.label and masked else None,
            enhancing=self.enhancing,
        )


def _site(index: int) -> int:
    return index // SUBJECTS_PER_SITE + 1


def _aged_head(rng: Generator, grid: Grid, skull_stripped: bool, healthy: bool) -> Head:
    age = rng.uniform()  # from 0 (45 years) to 1 (80 years), the range of UK Biobank's imaging
    ventricles = Swelling(VENTRICLES, (26.0, 42.0, 26.0), -0.1 + 0.45 * age + rng.normal(0, 0.04))
    head = make_head(rng, grid, [ventricles], skull_stripped)
    add_hyperintensities(rng, head, age)
    return head


def _head_with_glioma(rng: Generator, grid: Grid, skull_stripped: bool, healthy: bool) -> Head:
    centre = seed_points(rng, grid.spacing, 1, (14, 60), white=True)
    second = centre + rng.normal(0, 1, (1, 3)).astype(np.float32) * 14
    foci = np.concatenate([centre, second]) if rng.random() < 0.3 else centre
    mass_effect = [] if healthy else [Swelling(centre[0], (32.0, 32.0, 32.0), rng.uniform(0.1, 0.3))]
    head = make_head(rng, grid, mass_effect, skull_stripped)
    if not healthy:
        add_glioma(rng, head, foci)
    return head


def _head_with_strokes(rng: Generator, grid: Grid, skull_stripped: bool, healthy: bool) -> Head:
    ventricles = Swelling(VENTRICLES, (26.0, 42.0, 26.0), rng.uniform(0, 0.3))
    head = make_head(rng, grid, [ventricles], skull_stripped)
    if not healthy:
        first = seed_points(rng, grid.spacing, 1, (6, 40), white=False)
        lacunes = seed_points(rng, grid.spacing, rng.poisson(0.7), (10, 60), white=True)
        add_strokes(rng, head, np.concatenate([first, lacunes]))
    return head


UKB = Layout(
    shape=(182, 218, 182),
    flip=(-1, 1, 1),
    origin=(90, -126, -72),
    mni_origin=(0, 0, 0),
    files={
        "T1": "{id}_20252_{visit}/T1/T1_brain_to_MNI.nii.gz",
        "FLAIR": "{id}_20253_{visit}/T2_FLAIR/T2_FLAIR_brain_to_MNI.nii.gz",
    },
    label=None,
    subject=lambda index: str(1000012 + 37 * index),
    head=_aged_head,
    disease=None,
    skull_stripped=True,
    dtype=np.int16,
    name="{id}_{visit}",
    visits=("2_0", "3_0"),
)
BRATS_FILE = "{id}/{id}_%s.nii.gz"
BRATS = Layout(
    shape=(240, 240, 155),
    flip=(-1, -1, 1),
    origin=(0, 239, 0),
    mni_origin=(-120, 137, 72),
    files={modality: BRATS_FILE % modality.lower() for modality in ("FLAIR", "T1ce", "T1", "T2")},
    label=BRATS_FILE % "seg",
    subject=lambda index: f"BraTS2021_{index:05d}",
    head=_head_with_glioma,
    disease="tumours",
    skull_stripped=True,
    dtype=np.int16,
    convention="brats2021",
)
BRATS_2023_FILE = "{id}-{visit}/{id}-{visit}-%s.nii.gz"
BRATS_2023 = replace(
    BRATS,
    files={
        modality: BRATS_2023_FILE % kind
        for modality, kind in {"FLAIR": "t2f", "T1ce": "t1c", "T1": "t1n", "T2": "t2w"}.items()
    },
    label=BRATS_2023_FILE % "seg",
    subject=lambda index: f"BraTS-GLI-{index:05d}",
    name="{id}-{visit}",
    visits=("000", "001"),
    convention="brats2023",
)
ATLAS_FILE = "{id}/ses-1/anat/{id}_ses-1_space-MNI152NLin2009aSym_%s.nii.gz"
ATLAS_MASK = "label-L_desc-T1lesion_mask"
ATLAS = Layout(
    shape=(197, 233, 189),
    flip=(1, 1, 1),
    origin=(-98, -134, -72),
    mni_origin=(0, 0, 0),
    files={"T1": ATLAS_FILE % "T1w"},
    label=ATLAS_FILE % ATLAS_MASK,
    subject=lambda index: f"sub-r{_site(index):03d}s{index % SUBJECTS_PER_SITE + 1:03d}",
    head=_head_with_strokes,
    disease="strokes",
    skull_stripped=False,
    dtype=np.float32,
    convention="atlas",
    name="{id}_ses-1",
)
ATLAS_SITE_FILE = "{part}/{site}/" + ATLAS_FILE
ATLAS_SITES = replace(ATLAS, files={"T1": ATLAS_SITE_FILE % "T1w"}, label=ATLAS_SITE_FILE % ATLAS_MASK)
LAYOUTS = {"ukb": UKB, "brats": BRATS, "brats2023": BRATS_2023, "atlas": ATLAS, "atlas_sites": ATLAS_SITES}
