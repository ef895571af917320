"""Make the embedded cohort: computer-made heads in the folder layouts of UK Biobank, BraTS and ATLAS v2.0.

The cohort exercises the code that reads the real cohorts. It proves that the software works; it proves nothing about
patients.
"""

from dataclasses import dataclass
from functools import partial
from math import ceil
from pathlib import Path

import numpy as np
from numpy.random import Generator
from threadpoolctl import threadpool_limits

from common.data.volumes import write_volume
from common.errors import InputError, check_number, choice
from common.files import check_writable_folder, expand_home, reporting_path_errors
from common.values import flag
from scripts.phantoms import faults as phantom_faults
from scripts.phantoms.anatomy import ENHANCING, Head
from scripts.phantoms.files import FAST
from scripts.phantoms.hard_heads import DIFFICULT, HardHead, make_hard_head
from scripts.phantoms.layouts import LAYOUTS
from scripts.phantoms.mr_signal import SEQUENCES, scan
from scripts.phantoms.scanners import draw_scanner, scan_on
from scripts.pools import map_in_processes

__all__ = ["make"]

SHORT_SCAN = 80  # mm of brain along z in a scan that was cut short; the paper asks for 100 slices of 1 mm
DIFFICULTIES = dict.fromkeys(("standard", *DIFFICULT))
MASKED = tuple(name for name, layout in LAYOUTS.items() if layout.label is not None)
REVISITED = tuple(name for name, layout in LAYOUTS.items() if len(layout.visits) > 1)


@dataclass(frozen=True)
class _Order:
    """One person to make."""

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
    difficulty: str = "standard"

    @property
    def odd(self) -> bool:
        """Whether the person has an oddity other than a fault."""
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
    difficulty: str = "standard",
    workers: int = 0,
    overwrite: bool = False,
) -> None:
    """Make a cohort. The same arguments give the same bytes, whatever the number of workers.

    Args:
        layout: ukb (T1, FLAIR), brats (BraTS 2021: FLAIR, T1ce, T1, T2, labels 1, 2, 4), brats2023 (the same with
            labels 1, 2, 3, as BraTS 2023 and later have it), atlas (T1, label 1) or atlas_sites (the same in folders
            Training/R001 and so on; subjects without mask in Testing).
        subjects: number of people.
        output: a new or empty folder, unless overwrite.
        spacing: edge of a voxel in mm, 1 to 4. The real cohorts have 1.
        seed: of the random generator, 0 or more.
        skull_stripped: brain only (true) or whole head (false); by default as in the real cohort.
        without_lesion: number of subjects, the first ones, that have no lesion (all but ukb).
        without_mask: number of subjects, the last ones, that have no mask, as in a challenge's test set (all but ukb).
        too_few_slices: number of people, the first ones, whose first scans cover only 80 mm along z (ukb).
        without_flair: number of people, the last ones, who have no FLAIR (ukb).
        second_visits: number of people, the first ones, who were scanned twice (ukb: 2_0, 3_0; brats2023: 000, 001).
        faults: names of faults, such as truncated,nan: truncated (gzip), affine (shifted), flipped (affine's first
            axis), nan (voxels), missing (file), label (3 for 4, or 4 for 3), duplicate (files of another subject), 4d
            (file) and empty (mask). Each fault gets a subject without other oddities; OUTPUT.faults.json says which.
        difficulty: standard (large, distinct lesions; similar scanners), hard (several small, faint lesions; scanners
            that differ in noise, contrast, receive field and slice thickness; vessels, perivascular spaces and
            white-matter hyperintensities that resemble lesions; atrophy) or medium (as hard, with larger and less
            faint lesions). docs/data.md has the ranges.
        workers: processes; 0 for one per core.
        overwrite: replace files of the same names in a folder that is not empty; other files stay.
    """
    choice("layout", layout, LAYOUTS)
    choice("difficulty", difficulty, DIFFICULTIES)
    check_number("subjects", subjects, int, 1, 9999)
    check_number("seed", seed, int, 0, 2**63)
    check_number("workers", workers, int, 0, 1024)
    _check_spacing(spacing)
    for option, count, layouts in (
        ("without_lesion", without_lesion, MASKED),
        ("without_mask", without_mask, MASKED),
        ("too_few_slices", too_few_slices, ("ukb",)),
        ("without_flair", without_flair, ("ukb",)),
        ("second_visits", second_visits, REVISITED),
    ):
        check_number(option, count, int, 0, subjects)
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
            difficulty=difficulty,
        )
        for index in range(subjects)
    ]
    wrong = phantom_faults.chosen(faults)
    plain = [LAYOUTS[layout].case(order.index) for order in orders if not order.odd]
    phantom_faults.assign(wrong, plain)
    root = _writable_folder(output, flag("overwrite", overwrite))
    made = map_in_processes(partial(_make_subject, root), orders, workers, "subject", layout)
    if None in made:
        person = LAYOUTS[layout].subject(made.index(None))
        raise InputError(f"{person}: making it ended the process, twice; expected memory for one head per worker")
    phantom_faults.break_cohort(root, wrong, plain)


def _make_subject(root: Path, order: _Order) -> bool:
    """Make and write one person, who depends only on the seed and the index; True at the end."""
    layout = LAYOUTS[order.layout]
    rng = np.random.default_rng([order.seed, order.index])
    with threadpool_limits(1):
        grid = layout.grid(order.spacing)
        person: Head | HardHead
        if order.difficulty in DIFFICULT:
            disease = None if order.healthy else layout.disease
            modalities = list(layout.files)
            person = make_hard_head(rng, grid, order.skull_stripped, disease, modalities, order.difficulty)
        else:
            person = layout.head(rng, grid, order.skull_stripped, order.healthy)
        agent = rng.uniform(0.15, 0.4)  # mM
        for visit in range(order.visits):
            _scan_person(rng, person, agent, visit, root, order)
    return True


def _scan_person(rng: Generator, person: Head | HardHead, agent: float, visit: int, root: Path, order: _Order) -> None:
    """Write the scans and the mask of one visit. The scanner varies between visits, the head does not."""
    head = person.head if isinstance(person, HardHead) else person
    scanner = draw_scanner(rng) if isinstance(person, HardHead) else None
    layout = LAYOUTS[order.layout]
    affine = layout.affine(order.spacing)
    case = layout.case(order.index, visit, order.masked)
    for modality, file in case.images.items():
        if isinstance(person, HardHead) and scanner is not None:
            image = scan_on(rng, person.seen_by(modality), SEQUENCES[modality], agent, scanner)
        else:
            image = scan(rng, head, SEQUENCES[modality], agent)
        if order.cut_short and visit == 0:
            image[:, :, ceil(SHORT_SCAN / order.spacing) :] = 0
        if modality not in order.leave_out:
            write_volume(root / file, image.round().astype(layout.dtype), affine, compresslevel=FAST)
    if case.label is not None:
        labels = np.zeros(head.grid.shape, np.uint8)
        labels[head.inside] = head.labels
        labels[labels == ENHANCING] = layout.enhancing
        write_volume(root / case.label, labels, affine, compresslevel=FAST)


def _check_spacing(value: object) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 1 <= value <= 4:
        raise InputError(f"--spacing={value}: expected millimetres from 1 to 4")


def _writable_folder(output: str, overwrite: bool) -> Path:
    """The output folder, created if it is missing; refused if it cannot be written or is not empty."""
    root = expand_home(output, f"--output={output}")
    check_writable_folder(root, f"--output={output}")
    with reporting_path_errors(f"--output={output}"):
        root.mkdir(parents=True, exist_ok=True)
        occupied = any(root.iterdir())
    if occupied and not overwrite:
        raise InputError(f"--output={output}: not empty; expected a new or an empty folder, or --overwrite")
    return root
