"""What the models segment: the segments of each task, their label values and their SNOMED CT codes."""

from dataclasses import dataclass

from common.data.regions import CONVENTIONS, colours


@dataclass(frozen=True)
class Segment:
    """A segment of the DICOM segmentation.

    Attributes:
        values: label values that stand for it, one in each label convention.
        label: its name.
        code: SNOMED CT code of its morphology.
        meaning: meaning of the code.
        region: the innermost region that contains it; it lends its colour.
    """

    values: tuple[int, ...]
    label: str
    code: str
    meaning: str
    region: str

    @property
    def colour(self) -> str:
        """Its colour in pictures and viewers, #rrggbb."""
        return next(found[self.region] for found in map(colours, CONVENTIONS) if self.region in found)


@dataclass(frozen=True)
class Task:
    """What a bundle segments, and on which scans.

    Attributes:
        outputs: names of the network's output channels, by which metadata.json identifies the task.
        segments: in the order of their numbers in the DICOM segmentation, from 1.
        reference: modality whose series gives the grid unless the user names another.
        skull_stripped: whether the cohort's brains are skull-stripped, for a checkpoint that does not say it.
        in_mni_space: whether the cohort is in MNI space.
        cohort: of its training, a key of `common.prepare.targets.COHORT_SETTINGS`, as `--prepare` prepares scans.
    """

    outputs: frozenset[str]
    segments: tuple[Segment, ...]
    reference: str
    skull_stripped: bool
    in_mni_space: bool
    cohort: str


TASKS = {
    "tumour": Task(
        outputs=frozenset({"tumour core (TC)", "whole tumour (WT)", "enhancing tumour (ET)"}),
        segments=(
            Segment((1,), "Necrotic tumour core (NCR)", "6574001", "Necrosis", "TC"),
            Segment((2,), "Peritumoural oedema (ED)", "79654002", "Edema", "WT"),
            Segment((3, 4), "Enhancing tumour (ET)", "108369006", "Neoplasm", "ET"),  # 3 in BraTS 2023, 4 in BraTS 2021
        ),
        reference="T1ce",
        skull_stripped=True,
        in_mni_space=False,
        cohort="brats",
    ),
    "stroke": Task(
        outputs=frozenset({"stroke lesion"}),
        segments=(Segment((1,), "Stroke lesion", "55641003", "Infarct", "lesion"),),
        reference="T1",
        skull_stripped=False,
        in_mni_space=True,
        cohort="atlas",
    ),
}
