"""Cohorts: the files, grid and synthetic scans of each; a new entry of `COHORTS` adds a cohort.

`common.data.regions` has the regions of their label maps.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from scripts.layouts.paths import LABEL
from scripts.layouts.reading import FileLayout

ATLAS_FILE = "{above}{person}/ses-{session}/anat/{person}_ses-{session}_space-MNI152NLin2009aSym_%s"
ATLAS_SUBJECTS = 4  # per site, in the embedded cohort


@dataclass(frozen=True)
class Space:
    """The grid and orientation of a cohort's scans."""

    description: str  # for people, such as in a datalist
    shape: tuple[int, int, int]  # number of voxels along each axis, at 1 mm
    flip: tuple[int, int, int]  # sign of each voxel axis in RAS+: 1 or -1
    origin: tuple[float, float, float]  # position of the first voxel, mm
    mni_origin: tuple[float, float, float] = (0, 0, 0)  # position of the origin of MNI space, mm
    dof: int = 12  # degrees of freedom of the registration: 6 (rigid) or 12 (affine)
    code: int = 4  # of sform and qform in NIfTI headers: 2 (aligned) or 4 (MNI)
    brain: str = "deepbet"  # brain extraction that makes raw scans like the cohort's, or `none` for whole heads

    def affine(self, spacing: float) -> NDArray[np.float64]:
        """Return the affine [4, 4] from voxels to mm; `spacing` is the edge of a voxel, mm."""
        affine = np.diag([*(spacing * np.array(self.flip, float)), 1.0])
        affine[:3, 3] = self.origin
        return affine

    def edges(self, spacing: float) -> tuple[int, int, int]:
        """Return the number of voxels along each axis; `spacing` is the edge of a voxel, mm."""
        x, y, z = (ceil(size / spacing) for size in self.shape)
        return x, y, z

    def to_mni(self) -> NDArray[np.float64]:
        """Return the matrix [4, 4] from this space to MNI space, mm."""
        matrix = np.eye(4)
        matrix[:3, 3] = -np.array(self.mni_origin)
        return matrix


@dataclass(frozen=True)
class Cohort:
    """A cohort, such as BraTS: all facts about it that this software needs."""

    layouts: tuple[FileLayout, ...]  # of the cohort's releases; synthetic scans have the first
    about: str  # help of `python -m scripts.datalists NAME`: a summary line and paragraphs
    space: Space
    phantom: Callable[[int], Mapping[str, str]]  # fields of the first layout by the index of a synthetic person
    head: str  # pathology of the synthetic heads, a key of `scripts.phantoms.heads.HEADS`
    dtype: str = "int16"  # voxel type of images on disk
    reference: str = "T1"  # modality whose series defines the DICOM grid by default

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities in channel order."""
        return tuple(kind for kind in self.layouts[0].files if kind != LABEL)

    @property
    def convention(self) -> str | None:
        """The bundle's label convention, a key of `common.data.regions.CONVENTIONS`; None without labels."""
        return self.layouts[0].convention


# Strokes, T1 in MNI space, whole heads
ATLAS = Cohort(
    layouts=(
        FileLayout(
            files={"T1": ATLAS_FILE % "T1w", LABEL: ATLAS_FILE % "label-L_desc-T1lesion_mask"},
            subject="{person}_ses-{session}",
            first="_ses-1",
            fields={
                "above": r"(?:(?:(?:Training|Testing)/)?R\d{3}/)?",
                "person": r"sub-r\d{3}s\d{3}",
                "session": r"\d+",
            },
            convention="atlas",
        ),
    ),
    about="""Write the datalist of an ATLAS v2.0 folder: T1 and the label 1.

    The folder may hold the subjects, the sites (R001, ...) or the whole release (Training, Testing), each subject
    once. The paper holds out 100 images: `--testing=100` uses them only for the score, `--validation=100` also to
    select the checkpoint. Subjects without a mask go to the split `unlabelled`, which nothing trains on.
    """,
    space=Space(
        "MNI152 (ICBM152 2009a), the field of view of ATLAS v2.0",
        shape=(197, 233, 189),
        flip=(1, 1, 1),
        origin=(-98, -134, -72),
        brain="none",
    ),
    phantom=lambda index: {
        "above": "",
        "person": f"sub-r{index // ATLAS_SUBJECTS + 1:03d}s{index % ATLAS_SUBJECTS + 1:03d}",
        "session": "1",
    },
    head="strokes",
    dtype="float32",
)


def _brats_layout(visit: str, ends: Mapping[str, str], convention: str) -> FileLayout:
    files = {kind: f"{{visit}}/{{visit}}{end}" for kind, end in ends.items()}
    return FileLayout(files, subject="{visit}", fields={"visit": visit}, convention=convention)


# Gliomas and other tumours, FLAIR, T1ce, T1 and T2 in SRI24 space, brain only: BraTS 2021, 2023 and 2024
BRATS = Cohort(
    layouts=(
        _brats_layout(
            r"BraTS2021_\d{5}",
            {"FLAIR": "_flair", "T1ce": "_t1ce", "T1": "_t1", "T2": "_t2", LABEL: "_seg"},
            "brats2021",
        ),
        _brats_layout(
            r"BraTS-(?:GLI|MEN|MET|PED|SSA|GoAT)-\d{5}(?:-\d{3})?",
            {"FLAIR": "-t2f", "T1ce": "-t1c", "T1": "-t1n", "T2": "-t2w", LABEL: "-seg"},
            "brats2023",
        ),
    ),
    about="""Write the datalist of a BraTS folder: FLAIR, T1ce, T1, T2 and the labels.

    The folders' names distinguish BraTS 2021 (labels 1, 2, 4) from BraTS 2023 and 2024 (GLI, MEN, MET, PED, SSA and
    GoAT; labels 1, 2, 3). Since 2024, two sets have four labels: give `--label_convention=brats2024` for tumours after
    treatment, brats2024peds for PED. For MEN-RT, which has only T1ce, use `generic`.
    """,
    space=Space(
        "BraTS's space (SRI24's) with the MNI152 template placed in it; the SRI24 atlas itself was not used",
        shape=(240, 240, 155),
        flip=(-1, -1, 1),
        origin=(0, 239, 0),
        mni_origin=(-120, 137, 72),
        dof=6,
        code=2,
    ),
    phantom=lambda index: {"person": f"BraTS2021_{index:05d}", "visit": f"BraTS2021_{index:05d}"},
    head="glioma",
    reference="T1ce",
)

# T1 and T2-FLAIR as distributed, linearly registered to MNI space, brain only
UKB = Cohort(
    layouts=(
        FileLayout(
            files={
                "T1": "{person}_20252_{visit}/T1/T1_brain_to_MNI",
                "FLAIR": "{person}_20253_{visit}/T2_FLAIR/T2_FLAIR_brain_to_MNI",
            },
            subject="{person}_{visit}",
            fields={"person": r"\d+", "visit": r"\d+_\d+"},
            folders=r"\d+_2025[23]_\d+_\d+(?:/T1|/T2_FLAIR)?",  # not the many others
        ),
    ),
    about="""Write the datalist of a UK Biobank folder: T1 and T2-FLAIR, brain only, in MNI space.

    A subject is a visit of a person, such as 1000012_2_0; all visits of a person are in the same split. For the paper's
    selection use `--min_slices=100 --visits=first`: of 44,172 participants 43,369 have both images, and of these 41,400
    have 100 slices in each.
    """,
    space=Space(
        "MNI152 (ICBM152 2009a), the field of view of FSL and UK Biobank",
        shape=(182, 218, 182),
        flip=(-1, 1, 1),
        origin=(90, -126, -72),
    ),
    phantom=lambda index: {"person": str(1000012 + 37 * index), "visit": "2_0"},
    head="aged",
)

COHORTS = {"atlas": ATLAS, "brats": BRATS, "ukb": UKB}
LIKE = {f"{name}_finetune": name for name, cohort in COHORTS.items() if cohort.convention}  # bundle -> its cohort
