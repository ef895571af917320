"""BraTS 2021, 2023 and 2024: gliomas and other tumours, FLAIR, T1ce, T1 and T2 in SRI24 space, brain only."""

from collections.abc import Mapping

from scripts.cohorts.card import Cohort, Space
from scripts.layouts.names import LABEL
from scripts.layouts.reading import FileLayout


def _layout(visit: str, kinds: Mapping[str, str], convention: str) -> FileLayout:
    files = {kind: f"{{visit}}/{{visit}}{end}" for kind, end in kinds.items()}
    return FileLayout(files, subject="{visit}", fields={"visit": visit}, convention=convention)


COHORT = Cohort(
    layouts=(
        _layout(
            r"(?P<person>BraTS2021_\d{5})",
            {"FLAIR": "_flair", "T1ce": "_t1ce", "T1": "_t1", "T2": "_t2", LABEL: "_seg"},
            "brats2021",
        ),
        _layout(
            r"(?P<person>BraTS-(?:GLI|MEN|MET|PED|SSA|GoAT)-\d{5})(?:-\d{3})?",
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
