"""Find the raw scans of a folder: NIfTI in any layout of `common.data.layouts`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.data.layouts.listing import list_images, walk
from common.data.layouts.names import LABEL, NO_LABELS, Naming, check_distinct, words_of
from common.data.layouts.reading import read_layout
from common.data.layouts.subjects import DataSet
from common.data.modalities import SPELLINGS
from common.data.volumes import forms_of, open_volume
from common.errors import InputError, show
from common.files import digest
from scripts.prepare.volumes import Volume, read_volume

FILES = DATALIST, QUALITY, PAGE, REGIONS = "datalist.json", "quality.csv", "overview.html", "regions.yaml"  # output
BRAIN = "brain mask"  # name of brain masks among the layouts' modalities
FORMS = "SUBJECT/..MODALITY.nii.gz, SUBJECT_MODALITY.nii.gz, BIDS or nnU-Net's layout; convert DICOM with dcm2niix"
DICOM = "DICOM files; convert them first: dcm2niix -z y -f %d -o FOLDER/SUBJECT SUBJECT"


@dataclass(frozen=True)
class NiftiScan:
    """A modality's scan in a NIfTI file."""

    file: Path

    def digest(self) -> str:
        """Return the SHA-256 of the file; raise an InputError if the file cannot be read."""
        return digest(self.file)

    def read(self) -> Volume:
        """Return the volume; see `read_volume`."""
        return read_volume(self.file)

    def record(self) -> dict[str, Any]:
        """Return the scan's path, and the header bytes that state its grid, in hexadecimal digits, for records."""
        return {"file": str(self.file.absolute()), "forms": forms_of(open_volume(self.file)).hex()}


@dataclass(frozen=True)
class Subject:
    """A subject's scans; `fault` is why the subject cannot be prepared."""

    name: str
    files: Mapping[str, Path] = field(default_factory=dict)  # NIfTI files by modality; missing modalities are left out
    labels: Path | None = None  # NIfTI label map, on the grid of one of the files
    regions: str | None = None  # of the label map as text, if the data set states them
    brain: Path | None = None  # NIfTI brain mask on the grid of the reference
    fault: str = ""  # reason why the subject cannot be prepared, or ""

    def scans(self, modalities: Sequence[str]) -> dict[str, NiftiScan]:
        """Return the available scans by modality."""
        return {modality: NiftiScan(self.files[modality]) for modality in modalities if modality in self.files}


def holds_dicom(folder: Path) -> bool:
    """Whether any file below a folder is DICOM, by its first bytes."""
    files = (folder / entry.path for entry in walk(folder) if not entry.is_folder and not entry.is_broken)
    return any(path.open("rb").read(132)[128:] == b"DICM" for path in files)


def find_subjects(
    root: Path,
    modalities: Sequence[str],
    patterns: Mapping[str, str],
    labels: str | None = None,
    keeps_missing: bool = False,
    masks: str | None = None,
) -> list[Subject]:
    """Return all subjects in a folder, sorted by name; `Subject.fault` reports missing or clashing files.

    A folder that contains DICOM and no NIfTI is a fault with a hint at dcm2niix. `labels`
    None recognises the usual names of label maps, "none" skips label maps; `masks` None skips brain masks. Raise an
    InputError if there are no scans, or if an option matches nothing.
    """
    spelled = _spelled(patterns, modalities)
    if masks is not None:
        spelled[BRAIN] = words_of(masks, f"--brain={masks}")
    named = NO_LABELS if labels == "none" else labels and words_of(labels, f"--labels={labels}")
    naming = Naming((*modalities, *spelled), spelled, named)
    listing = list_images(root)
    data = read_layout(listing, naming, states_regions=True)
    idle = [name for name, files in listing.tops.items() if not files and name not in data.subjects]
    dicom = [name for name in idle if holds_dicom(root / name)]
    lines = data.account((*modalities, BRAIN), labels != "none")
    faults = _faults(data, naming, masks)
    subjects = [_subject(data, name, modalities, keeps_missing, masks, faults.get(name, "")) for name in data.subjects]
    try:
        if not (subjects or dicom or (patterns and listing.files)):  # otherwise a pattern is at fault
            raise InputError(root, "no scans", FORMS)
        if not dicom:
            _check_found(data, modalities, patterns, labels, keeps_missing)
    finally:
        show(*lines)
    subjects += [Subject(name, fault=DICOM) for name in dicom]
    return sorted(subjects, key=lambda subject: subject.name)


def _spelled(patterns: Any, modalities: Sequence[str]) -> dict[str, str]:
    """Return the words or pattern of each modality's files from the option `patterns`."""
    option = f"--patterns={patterns}"
    if not isinstance(patterns, Mapping):
        raise InputError(f"{option}: expected a mapping of texts; see --help")
    if unknown := [modality for modality in patterns if modality not in modalities]:
        raise InputError(f"{option}: {unknown[0]} is not one of the modalities {', '.join(modalities)}")
    spelled = {name: words_of(str(text), option) for name, text in patterns.items()}
    check_distinct(spelled, option)
    return spelled


def _check_found(
    data: DataSet,
    modalities: Sequence[str],
    patterns: Mapping[str, str],
    labels: str | None,
    keeps_missing: bool,
) -> None:
    available = {kind for subject in data.subjects.values() for kind in subject.files}
    standard = SPELLINGS.keys() - patterns.keys()  # other names may be misspelt
    may_lack = keeps_missing and not available.isdisjoint(modalities)
    for modality in modalities:
        if modality not in available and not (may_lack and modality in standard):
            option = f"--patterns={dict(patterns)}" if modality in patterns else data.root
            words = patterns.get(modality) or " or ".join(SPELLINGS.get(modality, (modality,)))
            masks = "; files that --brain matches are masks" if BRAIN in available else ""
            raise InputError(option, f"no file of {modality} ({words}){masks}", "a file of at least one subject")
    if labels not in (None, "none") and LABEL not in available:
        raise InputError(f"--labels={labels}: no subject has such a label map")


def _faults(data: DataSet, naming: Naming, masks: str | None) -> dict[str, str]:
    """Return, by subject, the first clash of the subject's files, with the option that resolves the clash."""
    faults: dict[str, str] = {}
    for clash in data.clashing(naming.modalities):
        option = "--labels=WORDS" if clash.kind == LABEL else f"--patterns=\"{{'{clash.kind}': 'WORDS'}}\""
        cure = f"--brain={masks} matches both" if clash.kind == BRAIN else f"the end or a pattern of its path: {option}"
        faults.setdefault(clash.subject, f"{clash}; expected one ({cure})")
    return faults


def _subject(
    data: DataSet, name: str, modalities: Sequence[str], keeps_missing: bool, masks: str | None, fault: str
) -> Subject:
    """Return a subject with its files or, if the subject cannot be prepared, with only a name and a fault."""
    paths = {kind: Path(data.root, path) for kind, path in data.subjects[name].files.items()}
    missing = data.subjects[name].lacks(modalities)
    if paths.keys() == {BRAIN}:
        cure = f"a scan of {name}, or a pattern that leaves it out (--brain={masks})"
        fault = fault or f"the brain mask {data.subjects[name].files[BRAIN]} belongs to no scan; expected {cure}"
    elif masks is not None and BRAIN not in paths:
        fault = fault or f"no brain mask; expected one file (--brain={masks})"
    elif missing and not keeps_missing:
        cure = "name it with --patterns, or accept its absence with --missing=keep"
        fault = fault or f"{missing[0]}: no file; expected one file ({cure})"
    elif len(missing) == len(modalities):
        fault = fault or f"no file of {', '.join(modalities)}; expected at least one"
    if fault:
        return Subject(name, fault=fault)
    chosen = {modality: paths[modality] for modality in modalities if modality in paths}
    return Subject(name, chosen, paths.get(LABEL), data.convention, paths.get(BRAIN))
