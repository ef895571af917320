"""Segmentation tasks of the bundles: segments, label values and SNOMED CT codes, from `COHORTS`."""

from dataclasses import dataclass

from common.data.cards import Segment
from common.data.cohorts import COHORTS


@dataclass(frozen=True)
class Task:
    """The segments and the expected scans of a bundle."""

    outputs: frozenset[str]  # names of the network's output channels in metadata.json, which identify the task
    segments: tuple[Segment, ...]  # numbered from 1 in this order in the DICOM segmentation
    reference: str  # modality whose series gives the grid by default
    skull_stripped: bool  # default for checkpoints that do not state it
    in_mni_space: bool
    cohort: str  # key of `COHORTS` for `--prepare`


TASKS = {
    name: Task(card.outputs, card.segments, card.reference, card.space.brain != "none", card.space.code == 4, name)
    for name, card in COHORTS.items()
    if card.segments
}
