"""Make the embedded cohort: computer-made heads in the folder layouts of UK Biobank, BraTS and ATLAS v2.0."""

from functools import partial
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from common.data.volumes import MADE_UP, write_volume
from common.errors import InputError, choice
from common.files import CLAIM, claimed
from scripts.cohorts import COHORTS, Cohort
from scripts.layouts.paths import LABEL
from scripts.phantoms.heads import HEADS, SEQUENCES, PhantomGrid, scan
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
    workers: int = 0,
) -> None:
    """Make a cohort. The same arguments give the same bytes, whatever the number of workers.

    Args:
        layout: cohort, such as ukb (T1, FLAIR), atlas (T1, label 1) or brats (BraTS 2021: FLAIR, T1ce, T1, T2, labels
            1, 2, 4).
        subjects: number of people.
        output: a new or empty folder.
        spacing: edge of a voxel in mm, 1 to 4. The real cohorts have 1.
        seed: seed of the random generator, 0 or more.
        skull_stripped: brain only (true) or whole head (false); default: as in the real cohort.
        workers: processes; 0 for one per core.
    """
    cohort = choice("layout", layout, COHORTS)
    stripped = cohort.space.brain != "none" if skull_stripped is None else skull_stripped
    root = Path(output).expanduser()
    work = partial(_make_subject, root, layout, seed, float(spacing), stripped)
    with claimed("output", root):
        if any(path.name != CLAIM for path in root.iterdir()):
            raise InputError(f"--output={output}: not empty; expected a new or an empty folder")
        map_in_processes(work, range(subjects), workers, "subject", layout)


def _make_subject(root: Path, layout: str, seed: int, spacing: float, skull_stripped: bool, index: int) -> None:
    """Make and write the person with this index."""
    cohort = COHORTS[layout]
    images, label = files_of(cohort, index)
    rng = np.random.default_rng([seed, index])
    with threadpool_limits(1):
        grid, affine = grid_of(cohort, spacing), cohort.space.affine(spacing)
        head, agent = HEADS[cohort.head](rng, grid, skull_stripped), rng.uniform(*AGENT)
        for modality, file in images.items():
            image = scan(rng, head, SEQUENCES[modality], agent).round().astype(cohort.dtype)
            write_volume(root / file, image, affine, compresslevel=FAST, description=MADE_UP)
        if label is not None:
            labels = np.zeros(grid.shape, np.uint8)
            labels[head.inside] = head.labels
            write_volume(root / label, labels, affine, compresslevel=FAST, is_label=True, description=MADE_UP)


def grid_of(cohort: Cohort, spacing: float) -> PhantomGrid:
    """Return the grid of a cohort's heads, with voxels of `spacing` mm; its affine maps voxels to MNI space."""
    return PhantomGrid(cohort.space.edges(spacing), spacing, cohort.space.to_mni() @ cohort.space.affine(spacing))


def files_of(cohort: Cohort, index: int) -> tuple[dict[str, str], str | None]:
    """Return a synthetic person's image paths by modality, and the path of the label map, if any."""
    fields = cohort.phantom(index)
    files = {kind: f"{text.format(**fields)}.nii.gz" for kind, text in cohort.layouts[0].files.items()}
    return files, files.pop(LABEL, None)
