"""Settings for preparing raw scans."""

from dataclasses import dataclass

import numpy as np

from common.errors import InputError, choice
from scripts.cohorts import COHORTS, Space
from scripts.prepare.volumes import Grid

RECORD = "prepare.json"  # in the folder of a prepared subject
DEEPBET = "deepbet"


@dataclass(frozen=True)
class Settings:
    """How to prepare raw scans so that they match the scans of a cohort; raises `InputError` for invalid values."""

    like: str  # cohort that defines space and field of view, a key of `COHORTS`
    modalities: tuple[str, ...]  # in order
    brain: str = DEEPBET  # extraction: `deepbet`, a pattern of mask files, or `none` to keep the head
    spacing: float = 1.0  # voxel size of the result, mm

    def __post_init__(self) -> None:
        names = self.modalities
        if not names or not all(name.isalnum() for name in names) or len({*names}) < len(names):
            raise InputError(f"modalities {[*names]}: expected different names of letters and digits")
        if "*" not in str(self.brain):
            choice("brain", self.brain, (DEEPBET, "none", "a pattern such as *_brain.nii.gz"))
        if not 1 <= self.spacing <= 4:
            raise InputError(f"--spacing={self.spacing}", expected="1 to 4 mm")

    @property
    def target(self) -> Space:
        """The cohort's space, in which the prepared scans lie."""
        return COHORTS[self.like].space

    @property
    def reference(self) -> str:
        """The modality registered to the template: T1, else T1ce, else the first; the rest are registered to it."""
        return next((modality for modality in ("T1", "T1ce") if modality in self.modalities), self.modalities[0])

    @property
    def grid(self) -> Grid:
        """The grid of the prepared scans, with the same field of view at every spacing."""
        affine = self.target.affine(self.spacing)
        affine[:3, 3] += (self.spacing - 1) / 2 * np.array(self.target.flip)
        return Grid(self.target.edges(self.spacing), affine)

    def describe(self, is_stripped: bool = False) -> str:
        """Describe space, voxel size and brain extraction in words; `is_stripped`: the raw scans have no skull."""
        brain = "head kept" if self.brain == "none" else f"brain extracted by {self.brain}"
        brain = "brain as in the scan, which was already skull-stripped" if is_stripped else brain
        return f"{self.target.description}; voxels of {self.spacing:g} mm; {brain}"
