"""What to prepare, and how: the settings, and the subjects of a folder in any layout of `scripts.layouts`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from common.data.names import SPELLINGS
from common.errors import InputError, choice, shortened, show
from common.files import read_json
from scripts.cohorts import COHORTS, Space
from scripts.layouts.paths import LABEL, Naming, words_of
from scripts.layouts.reading import DataSet, read_layout
from scripts.prepare.volumes import Grid

RECORD = "prepare.json"  # in the folder of a prepared subject
DEEPBET = "deepbet"
BRAIN = "brain mask"  # name of brain masks among the layouts' modalities
FORMS = "SUBJECT/..MODALITY.nii.gz, SUBJECT_MODALITY.nii.gz, BIDS or nnU-Net's layout; convert DICOM with dcm2niix"


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


@dataclass(frozen=True)
class Subject:
    """A subject's files; `fault` is why the subject cannot be prepared."""

    name: str
    files: Mapping[str, Path] = field(default_factory=dict)  # scans by modality; missing modalities are left out
    labels: Path | None = None  # label map, on the grid of one of the scans
    brain: Path | None = None  # brain mask on the grid of the reference
    fault: str = ""


def find_subjects(
    root: Path,
    modalities: Sequence[str],
    patterns: Mapping[str, str],
    labels: str | None = None,
    keeps_missing: bool = False,
    masks: str | None = None,
) -> list[Subject]:
    """Return all subjects in a folder, sorted by name; `Subject.fault` reports missing or clashing files.

    `labels` None recognises the usual names of label maps, "none" skips label maps; `masks` None skips brain masks.
    Raise an InputError if there are no scans, or if an option matches nothing.
    """
    kinds = (*modalities, BRAIN) if masks is not None else tuple(modalities)
    words = {}
    for modality, text in patterns.items():
        words[choice("patterns", modality, modalities)] = words_of(str(text), f"--patterns={patterns}")
    if masks is not None:
        words[BRAIN] = words_of(masks, f"--brain={masks}")
    if labels not in (None, "none"):
        words[LABEL] = words_of(str(labels), f"--labels={labels}")
    data = read_layout(root, Naming(kinds, words, labels=labels != "none"))
    folders = {path.name for path in root.iterdir() if path.is_dir() and path.name[0] != "."}
    if idle := sorted(folders - {path.split("/")[0] for path in data.images}):
        show(f"warning: no scan in {shortened(idle)}; convert DICOM with dcm2niix", error=True)
    data.show_unused(kinds, f"--patterns=\"{{'{modalities[0]}': '{{subject}}/*WORDS'}}\"")
    if not data.images:
        raise InputError(root, "no scans", FORMS)
    present = {kind for subject in data.subjects.values() for kind in subject.files}
    for modality in modalities:
        may_lack = keeps_missing and modality in SPELLINGS and modality not in patterns  # other names may be misspelt
        if modality not in present and not may_lack:
            usual = patterns.get(modality) or " or ".join(SPELLINGS.get(modality, (modality,)))
            raise InputError(root, f"no file of {modality} ({usual})", "a file of at least one subject, or --patterns")
    if LABEL in words and LABEL not in present:
        raise InputError(f"--labels={labels}: no subject has such a label map")
    return [_subject(data, name, modalities, keeps_missing, masks) for name in sorted(data.subjects)]


def _subject(data: DataSet, name: str, modalities: Sequence[str], keeps_missing: bool, masks: str | None) -> Subject:
    """Return a subject with its files or, if the subject cannot be prepared, with only a name and a fault."""
    paths = {kind: Path(data.root, path) for kind, path in data.subjects[name].files.items()}
    for kind in (LABEL, BRAIN, *modalities):
        if problem := data.clash(name, kind):
            return Subject(name, fault=f"{problem}; expected one; --patterns, --labels or --brain can name it")
    if masks is not None and BRAIN not in paths:
        return Subject(name, fault=f"no brain mask; expected one file (--brain={masks})")
    missing = [modality for modality in modalities if modality not in paths]
    if len(missing) == len(modalities) or (missing and not keeps_missing):
        cure = "name it with --patterns, or accept its absence with --missing=keep"
        return Subject(name, fault=f"{missing[0]}: no file; expected one file ({cure})")
    scans = {modality: paths[modality] for modality in modalities if modality in paths}
    return Subject(name, scans, paths.get(LABEL), paths.get(BRAIN))


def space_of(data: DataSet) -> dict[str, str]:
    """Return the space that `scripts.prepare` recorded beside the visits; empty without records. Refuse two spaces."""
    folders = {Path(data.root, file).parent for visit in data.subjects.values() for file in visit.files.values()}
    records = [read_json(folder / RECORD) for folder in folders if (folder / RECORD).is_file()]
    spaces = sorted({record["settings"]["like"] for record in records if "settings" in record})
    if len(spaces) > 1:
        raise InputError(f"--root={data.root}", f"scans prepared for {' and '.join(spaces)}", "the same --like for all")
    return {"space": spaces[0]} if spaces else {}
