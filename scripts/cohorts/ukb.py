"""UK Biobank's brain scans as distributed: T1 and T2-FLAIR, linearly registered to MNI space, brain only."""

from scripts.cohorts.card import Cohort, Space
from scripts.layouts.reading import FileLayout

COHORT = Cohort(
    layouts=(
        FileLayout(
            files={
                "T1": "{person}_20252_{visit}/T1/T1_brain_to_MNI",
                "FLAIR": "{person}_20253_{visit}/T2_FLAIR/T2_FLAIR_brain_to_MNI",
            },
            subject="{person}_{visit}",
            fields={"person": r"\d+", "visit": r"\d+_\d+"},
            skims=True,
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
