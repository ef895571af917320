"""The embedded cohort: `python -m scripts.phantoms make`.

Heads made by computer, in the folder layouts of UK Biobank, BraTS and ATLAS v2.0, so that the code which reads those
cohorts is exercised without them. They prove that the software works; they prove nothing about patients.
"""

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from pathlib import Path

import numpy as np
from numpy.random import Generator
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from common.preflight import InputError, flag
from scripts import phantom_faults
from scripts.cli import run
from scripts.phantom_anatomy import (
    ENHANCING,
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
from scripts.phantom_files import write_volume
from scripts.phantom_signal import SEQUENCES, scan

__all__ = ["LAYOUTS", "Layout", "make"]

FEW_SLICES = 80  # mm of brain along z in a scan that was cut short; the paper asks for 100 slices of 1 mm
SUBJECTS_PER_SITE = 4  # of the ATLAS layout


@dataclass(frozen=True)
class Layout:
    """A cohort's grid, files and kind of subject.

    Attributes:
        shape: voxels at 1 mm.
        flip: direction of each voxel axis in world space (RAS+): 1 or -1.
        origin: world position of the first voxel, mm.
        mni_origin: world position of the origin of MNI space, mm.
        files: modality -> path below the root; `{id}` is the person's, `{visit}` the visit's, `{site}` R and a number,
            `{part}` Training or, for subjects without mask, Testing.
        label: path of the lesion mask in the same form, if any.
        subject: index -> id of a person.
        head: makes the anatomy; takes the generator, the grid, skull_stripped and healthy.
        skull_stripped: whether the cohort comes so.
        dtype: of the images' voxels on disk.
        name: of a subject, that is of a person at a visit, in the same form as the paths.
        visits: names of a person's first and second visit, where there are second ones.
        enhancing: the mask's value of enhancing tumour; 0 where there are no tumours.
    """

    shape: tuple[int, int, int]
    flip: tuple[int, int, int]
    origin: tuple[float, float, float]
    mni_origin: tuple[float, float, float]
    files: dict[str, str]
    label: str | None
    subject: Callable[[int], str]
    head: Callable[[Generator, Grid, bool, bool], Head]
    skull_stripped: bool
    dtype: type[np.generic]
    name: str = "{id}"
    visits: tuple[str, ...] = ("",)
    enhancing: int = 0

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

    def case(self, index: int, visit: int = 0, masked: bool = True) -> phantom_faults.Case:
        """The files of a subject at its first (0) or second visit (1)."""
        known = {
            "id": self.subject(index),
            "visit": self.visits[visit],
            "site": f"R{_site(index):03d}",
            "part": "Training" if masked else "Testing",
        }
        return phantom_faults.Case(
            person=self.subject(index),
            subject=self.name.format(**known),
            images={modality: path.format(**known) for modality, path in self.files.items()},
            label=self.label.format(**known) if self.label and masked else None,
            enhancing=self.enhancing,
        )


def _site(index: int) -> int:
    return index // SUBJECTS_PER_SITE + 1


def _aged_head(rng: Generator, grid: Grid, skull_stripped: bool, healthy: bool) -> Head:
    age = rng.uniform()  # 0: as at 45 years, 1: as at 80, the range of UK Biobank's imaging
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
    skull_stripped=True,
    dtype=np.int16,
    enhancing=4,
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
    enhancing=3,
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
    skull_stripped=False,
    dtype=np.float32,
    name="{id}_ses-1",
)
ATLAS_SITE_FILE = "{part}/{site}/" + ATLAS_FILE
ATLAS_SITES = replace(ATLAS, files={"T1": ATLAS_SITE_FILE % "T1w"}, label=ATLAS_SITE_FILE % ATLAS_MASK)
LAYOUTS = {"ukb": UKB, "brats": BRATS, "brats2023": BRATS_2023, "atlas": ATLAS, "atlas_sites": ATLAS_SITES}
MASKED = tuple(name for name, layout in LAYOUTS.items() if layout.label is not None)
REVISITED = tuple(name for name, layout in LAYOUTS.items() if len(layout.visits) > 1)


@dataclass(frozen=True)
class _Order:
    """What to make for one person."""

    layout: str
    index: int
    seed: int
    spacing: float
    skull_stripped: bool
    healthy: bool = False
    cut_short: bool = False
    leave_out: tuple[str, ...] = ()
    visits: int = 1
    masked: bool = True

    @property
    def odd(self) -> bool:
        """Whether an oddity other than a fault was asked for."""
        return self.healthy or self.cut_short or bool(self.leave_out) or self.visits > 1 or not self.masked


def make(
    layout: str,
    subjects: int,
    output: str,
    spacing: float = 1.0,
    seed: int = 0,
    skull_stripped: bool | None = None,
    without_lesion: int = 0,
    without_mask: int = 0,
    too_few_slices: int = 0,
    without_flair: int = 0,
    second_visits: int = 0,
    faults: str = "",
    workers: int = 0,
    overwrite: bool = False,
) -> None:
    """Make a cohort. The same arguments give the same bytes, whatever the number of workers.

    Args:
        layout: ukb (T1, FLAIR), brats (BraTS 2021: FLAIR, T1ce, T1, T2, labels 1, 2, 4), brats2023 (BraTS 2023 and
            later: the same, labels 1, 2, 3), atlas (T1, label 1) or atlas_sites (the same in folders Training/R001 and
            so on; subjects without mask in Testing).
        subjects: how many people.
        output: folder to make it in; a new or an empty one, unless overwrite.
        spacing: edge of a voxel in mm, 1 to 4. The real cohorts have 1.
        seed: of the random generator, 0 or more.
        skull_stripped: brain alone (true) or whole head (false); by default as the real cohort comes.
        without_lesion: so many subjects, the first ones, have no lesion (all but ukb).
        without_mask: so many subjects, the last ones, have no mask, as in a challenge's test set (all but ukb).
        too_few_slices: so many people, the first ones, have scans of 80 mm along z at their first visit (ukb).
        without_flair: so many people, the last ones, have no FLAIR (ukb).
        second_visits: so many people, the first ones, were scanned twice (ukb: 2_0, 3_0; brats2023: 000, 001).
        faults: names of what is to be wrong, such as truncated,nan: truncated (gzip), affine (shifted), flipped
            (affine's first axis), nan (voxels), missing (file), label (3 for 4, or 4 for 3), duplicate (files of
            another subject), 4d (file) and empty (mask). Each is given to a subject of its own, which has no other
            oddity; OUTPUT.faults.json says to which.
        workers: processes; 0 for one per core.
        overwrite: replace files of the same names in a folder that is not empty; other files stay.
    """
    _check_choice("layout", layout, tuple(LAYOUTS))
    _check_count("subjects", subjects, 1, 9999)
    _check_count("seed", seed, 0, 2**63)
    _check_count("workers", workers, 0, 1024)
    _check_spacing(spacing)
    for option, count, layouts in (
        ("without_lesion", without_lesion, MASKED),
        ("without_mask", without_mask, MASKED),
        ("too_few_slices", too_few_slices, ("ukb",)),
        ("without_flair", without_flair, ("ukb",)),
        ("second_visits", second_visits, REVISITED),
    ):
        _check_count(option, count, 0, subjects)
        if count and layout not in layouts:
            raise InputError(f"--{option}={count}: the layout {layout} has no such subjects; expected {layouts}")
    stripped = LAYOUTS[layout].skull_stripped if skull_stripped is None else flag("skull_stripped", skull_stripped)
    orders = [
        _Order(
            layout=layout,
            index=index,
            seed=seed,
            spacing=float(spacing),
            skull_stripped=stripped,
            healthy=index < without_lesion,
            cut_short=index < too_few_slices,
            leave_out=("FLAIR",) if index >= subjects - without_flair else (),
            visits=2 if index < second_visits else 1,
            masked=index < subjects - without_mask,
        )
        for index in range(subjects)
    ]
    wrong = phantom_faults.chosen(faults)
    plain = [LAYOUTS[layout].case(order.index) for order in orders if not order.odd]
    phantom_faults.assign(wrong, plain)
    root = _writable_folder(output, flag("overwrite", overwrite))
    with ProcessPoolExecutor(min(workers or os.cpu_count() or 1, subjects)) as pool:
        for _ in tqdm(pool.map(partial(_make_subject, root), orders), total=subjects, desc=layout, unit="subject"):
            pass
    phantom_faults.break_cohort(root, wrong, plain)


def _make_subject(root: Path, order: _Order) -> None:
    """Make and write one person; everything about it follows from the seed and its index."""
    layout = LAYOUTS[order.layout]
    rng = np.random.default_rng([order.seed, order.index])
    with threadpool_limits(1):
        head = layout.head(rng, layout.grid(order.spacing), order.skull_stripped, order.healthy)
        agent = rng.uniform(0.15, 0.4)  # mM
        for visit in range(order.visits):
            _scan_person(rng, head, agent, visit, root, order)


def _scan_person(rng: Generator, head: Head, agent: float, visit: int, root: Path, order: _Order) -> None:
    """Write the scans and the mask of one visit: from visit to visit the scanner varies, the head does not."""
    layout = LAYOUTS[order.layout]
    affine = layout.affine(order.spacing)
    case = layout.case(order.index, visit, order.masked)
    for modality, file in case.images.items():
        image = scan(rng, head, SEQUENCES[modality], agent)
        if order.cut_short and visit == 0:
            image[:, :, ceil(FEW_SLICES / order.spacing) :] = 0
        if modality not in order.leave_out:
            write_volume(image.round().astype(layout.dtype), affine, root / file)
    if case.label is not None:
        labels = np.zeros(head.grid.shape, np.uint8)
        labels[head.inside] = head.labels
        labels[labels == ENHANCING] = layout.enhancing
        write_volume(labels, affine, root / case.label)


def _check_choice(option: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"--{option}={value}: expected one of {', '.join(choices)}")


def _check_count(option: str, value: object, least: int, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise InputError(f"--{option}={value}: expected a whole number from {least} to {most}")


def _check_spacing(value: object) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 1 <= value <= 4:
        raise InputError(f"--spacing={value}: expected millimetres from 1 to 4")


def _writable_folder(output: str, overwrite: bool) -> Path:
    """The folder, made where it is missing; refused where it cannot be written or holds something."""
    root = Path(str(output)).expanduser()
    try:
        root.mkdir(parents=True, exist_ok=True)
        occupied = any(root.iterdir())
    except OSError as error:
        raise InputError(f"--output={output}: {error.strerror}; expected a folder that can be written") from error
    if not os.access(root, os.W_OK):
        raise InputError(f"--output={output}: cannot be written; expected a folder that can be written")
    if occupied and not overwrite:
        raise InputError(f"--output={output}: not empty; expected a new or an empty folder, or --overwrite")
    return root


if __name__ == "__main__":
    run({"make": make}, "phantoms")
