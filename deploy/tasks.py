"""The segments of each task, with label values and SNOMED CT codes."""

from dataclasses import dataclass

from common.data.regions import CONVENTIONS, colours


@dataclass(frozen=True)
class Segment:
    """A segment of the DICOM segmentation.

    `values` has one label value for each label convention. `region` is the innermost region that contains it and gives
    its colour.
    """

    values: tuple[int, ...]
    label: str
    code: str
    meaning: str
    region: str

    @property
    def colour(self) -> str:
        """Colour in pictures and viewers, #rrggbb."""
        return next(found[self.region] for found in map(colours, CONVENTIONS) if self.region in found)


@dataclass(frozen=True)
class Task:
    """The segments and the expected scans of a bundle."""

    outputs: frozenset[str]  # names of the network's output channels in metadata.json, which identify the task
    segments: tuple[Segment, ...]  # numbered from 1 in this order in the DICOM segmentation
    reference: str  # modality whose series gives the grid by default
    skull_stripped: bool  # default for checkpoints that do not state it
    in_mni_space: bool
    cohort: str  # key of `common.prepare.targets.TARGETS` for `--prepare`


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
