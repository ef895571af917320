"""ATLAS v2.0: strokes, T1 in MNI space, whole heads."""

from scripts.cohorts.card import Cohort, Space
from scripts.layouts.names import LABEL
from scripts.layouts.reading import FileLayout

ABOVE = r"(?:(?:(?:Training|Testing)/)?R\d{3}/)?"
FILE = "{above}{person}/ses-{session}/anat/{person}_ses-{session}_space-MNI152NLin2009aSym_%s"
SUBJECTS_PER_SITE = 4  # in the embedded cohort

COHORT = Cohort(
    layouts=(
        FileLayout(
            files={"T1": FILE % "T1w", LABEL: FILE % "label-L_desc-T1lesion_mask"},
            subject="{person}_ses-{session}",
            first="_ses-1",
            fields={"above": ABOVE, "person": r"sub-r\d{3}s\d{3}", "session": r"\d+"},
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
        "person": f"sub-r{index // SUBJECTS_PER_SITE + 1:03d}s{index % SUBJECTS_PER_SITE + 1:03d}",
        "session": "1",
    },
    head="strokes",
    dtype="float32",
)
