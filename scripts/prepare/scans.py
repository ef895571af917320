"""Find the raw scans of a folder: NIfTI in any layout of `scripts.layouts`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common.data.names import SPELLINGS
from common.errors import InputError, choice, shortened, show
from scripts.layouts.names import LABEL
from scripts.layouts.patterns import Naming, words_of
from scripts.layouts.reading import DataSet, read_layout

BRAIN = "brain mask"  # name of brain masks among the layouts' modalities
FORMS = "SUBJECT/..MODALITY.nii.gz, SUBJECT_MODALITY.nii.gz, BIDS or nnU-Net's layout; convert DICOM with dcm2niix"


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
