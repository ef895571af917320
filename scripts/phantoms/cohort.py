"""Make the embedded cohort: computer-made heads in the folder layouts of UK Biobank, BraTS and ATLAS v2.0.

The cohort tests the code that reads the real cohorts; it proves nothing about patients.
"""

from functools import partial
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from common.data.cohorts import COHORTS
from common.data.volumes import MADE_UP, write_volume
from common.errors import InputError, check_number, choice
from common.files import expand_home, reporting_path_errors
from common.locks import CLAIM, claimed
from common.values import flag
from scripts.phantoms.layouts import HEADS, files_of, grid_of
from scripts.phantoms.medium_heads import make_medium_head
from scripts.phantoms.mr_signal import SEQUENCES, draw_scanner, scan, scan_on
from scripts.pools import map_in_processes

FAST = 1  # compression level: faster writing, larger files
AGENT = (0.15, 0.4)  # mM of contrast agent in enhancing tumour


def make(
    layout: str,
    subjects: int,
    output: str,
    spacing: float = 1.0,
    seed: int = 0,
    skull_stripped: bool | None = None,
    difficulty: str = "standard",
    dicom: bool = False,
    workers: int = 0,
) -> None:
    """Make a cohort. The same arguments give the same bytes, whatever the number of workers.

    Args:
        layout: ukb (T1, FLAIR), brats (BraTS 2021: FLAIR, T1ce, T1, T2, labels 1, 2, 4) or atlas (T1, label 1).
        subjects: number of people.
        output: a new or empty folder.
        spacing: edge of a voxel in mm, 1 to 4. The real cohorts have 1.
        seed: seed of the random generator, 0 or more.
        skull_stripped: brain only (true) or whole head (false); default: as in the real cohort.
        difficulty: standard (large, distinct lesions; similar scanners) or, for ukb and brats, medium (several lesions
            of all sizes, some of them faint; scanners that differ; structures that resemble lesions; atrophy).
        dicom: also write the images as DICOM studies, as a scanner exports them, into OUTPUT/dicom.
        workers: processes; 0 for one per core.
    """
    cohort = choice("layout", layout, COHORTS)
    is_medium = choice("difficulty", difficulty, {"standard": False, "medium": True})
    if is_medium and cohort.head == "strokes":
        raise InputError(f"--difficulty=medium: not available for --layout={layout}; expected standard")
    check_number("subjects", subjects, int, 1, 9999)
    check_number("seed", seed, int, 0, 2**63)
    check_number("workers", workers, int, 0, 1024)
    check_number("spacing", spacing, float, 1, 4)  # mm
    stripped = cohort.space.brain != "none" if skull_stripped is None else flag("skull_stripped", skull_stripped)
    root = expand_home(output, f"--output={output}")
    work = partial(
        _make_subject,
        root=root,
        layout=layout,
        seed=seed,
        spacing=float(spacing),
        skull_stripped=stripped,
        is_medium=is_medium,
        dicom=flag("dicom", dicom),
    )
    with claimed("output", root), reporting_path_errors(f"--output={output}"):
        if any(path.name != CLAIM for path in root.iterdir()):
            raise InputError(f"--output={output}: not empty; expected a new or an empty folder")
        made = map_in_processes(work, range(subjects), workers, "subject", layout)
    if None in made:
        person = cohort.phantom(made.index(None))["person"]
        raise InputError(f"{person}: its process was killed twice, probably for lack of memory; use fewer --workers")


def _make_subject(
    index: int, root: Path, layout: str, seed: int, spacing: float, skull_stripped: bool, is_medium: bool, dicom: bool
) -> bool:
    """Make and write the person with this index. Return True: the result of a killed process is None."""
    cohort = COHORTS[layout]
    images, label = files_of(cohort, index)
    contrasts = {modality: cohort.contrasts.get(modality, modality) for modality in images}
    rng = np.random.default_rng([seed, index])
    with threadpool_limits(1):
        grid, affine = grid_of(cohort, spacing), cohort.space.affine(spacing)
        if is_medium:
            medium = make_medium_head(rng, grid, skull_stripped, [*contrasts.values()], has_tumours=label is not None)
            head, agent, scanner = medium.head, rng.uniform(*AGENT), draw_scanner(rng)
        else:
            head, agent = HEADS[cohort.head](rng, grid, skull_stripped), rng.uniform(*AGENT)
        scans = {}
        for modality, file in images.items():
            contrast = contrasts[modality]
            if is_medium:
                image = scan_on(rng, medium.seen_by(contrast), SEQUENCES[contrast], agent, scanner)
            else:
                image = scan(rng, head, SEQUENCES[contrast], agent)
            scans[modality] = image.round().astype(cohort.dtype)
            write_volume(root / file, scans[modality], affine, compresslevel=FAST, description=MADE_UP)
        if label is not None:
            labels = np.zeros(grid.shape, np.uint8)
            labels[head.inside] = head.labels
            write_volume(root / label, labels, affine, compresslevel=FAST, is_label=True, description=MADE_UP)
        if dicom:
            from scripts.phantoms.dicom import write_study  # late import: pydicom is for DICOM only

            name, settings = cohort.phantom(index)["person"], (layout, seed, spacing, skull_stripped, is_medium)
            write_study(root / "dicom" / name, scans, affine, name, f"{name} {settings}")
    return True
