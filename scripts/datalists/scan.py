"""Scan a folder for a datalist: people's visits, their modalities and the label convention."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from common.data.layouts.listing import list_images
from common.data.layouts.names import LABEL, MIXED, Naming
from common.data.layouts.people import describe_people
from common.data.layouts.reading import read_cohort, read_layout
from common.data.layouts.subjects import DataSet, SubjectFiles
from common.data.modalities import SPELLINGS
from common.errors import InputError, shortened, show
from scripts.datalists.regions import from_labels

FORMS = "SUBJECT/SUBJECT_T1.nii.gz, SUBJECT_T1.nii.gz, sub-*/anat, or imagesTr and dataset.json"


class Scan(NamedTuple):
    """The subjects' visits found in a folder, their modalities and label convention, and the people for testing."""

    name: str  # of the datalist
    modalities: tuple[str, ...]
    convention: str | None  # label convention as text; None without label maps
    visits: list[SubjectFiles]  # sorted by name, each with its person
    held_out: frozenset[str]  # people that the layout reserves for testing
    layout: str = ""  # as in `LAYOUTS`; empty for a cohort

    def labelled(self, keep_missing: bool = False) -> list[SubjectFiles]:
        """Return the visits with a label map and all modalities or, with `keep_missing`, any number of them."""
        return [visit for visit in self.visits if visit.label and (keep_missing or not visit.lacks(self.modalities))]

    def people(self, visits: Sequence[SubjectFiles]) -> list[str]:
        """Return the people with these visits, sorted, without the people that the layout reserves for testing."""
        return sorted({visit.person for visit in visits} - self.held_out)

    def describe_people(self) -> str:
        """Describe who is a person, if visits share a person or may share one; else ""."""
        return describe_people({visit.name: visit.person for visit in self.visits})


def scan_cohort(root: Path, cohort: str, convention: str | None = None) -> Scan:
    """Scan a cohort's folder; `cohort` is a key of `COHORTS`, and `convention` replaces its label convention."""
    data, naming = read_cohort(cohort, root), Naming()
    show(*data.account(data.order), *([] if convention else data.remarks))
    _refuse_clashes(data, naming)
    visits = [*data.subjects.values()]
    return Scan(cohort, tuple(data.order), convention or data.convention, visits, frozenset())


def scan_any(
    root: Path,
    *,
    naming: Naming,
    layout: str | None = None,
    regions: str | None = None,
    person: Callable[[str], str] | None = None,
    keep_missing: bool = False,
    workers: int = 0,
    is_asking: bool = True,
) -> Scan:
    """Scan any data set and print its layout, modalities and regions; `layout` and `regions` are detected if None.

    `person` takes a subject's name and returns the person. If `naming` lists no modalities, those of every subject are
    taken or, with `keep_missing`, those of any subject. Without `is_asking`, an unclear layout is read as flat, only
    subjects with a label map decide on the modalities, and the label values become regions (`from_labels`).
    """
    listing = list_images(root)
    data = read_layout(listing, naming, layout, regions is None, f"--root={root}" if is_asking else "")
    if not data.name:
        folders = shortened(list(listing.tops), most=4) or "no folder"
        raise InputError(f"--root={root}", f"no data set of a known layout among {folders}", FORMS)
    if naming.modalities == (MIXED,):
        data.subjects = {part.name: part for subject in data.subjects.values() for part in subject.apart()}
    subjects = [subject for _, subject in sorted(data.subjects.items()) if subject.images]
    counted = subjects if is_asking else [subject for subject in subjects if subject.label] or subjects
    counts = Counter(modality for subject in counted for modality in subject.images)
    try:
        _refuse_clashes(data, naming)
        modalities = _modalities(data, counts, len(counted), naming, keep_missing)
    except InputError:
        show(*data.account(naming.modalities or counts))
        raise
    show(*data.account(modalities))
    show(f"layout: {data.name} ({data.layout}), subjects: {len(subjects)}, modalities: {', '.join(modalities)}")
    convention = _convention(data, subjects, naming, regions, workers, is_asking)
    for subject in subjects:
        subject.person = person(subject.name) if person else subject.person
    held_out = frozenset(subject.person for subject in subjects if subject.name in data.held_out)
    scan = Scan(root.resolve().name or "data", modalities, convention, subjects, held_out, data.name)
    if text := scan.describe_people():
        show(f"people: {text}")
    return scan


def _refuse_clashes(data: DataSet, naming: Naming) -> None:
    """Raise an InputError if two files fit the same image or label map."""
    if clashes := data.clashing(naming.modalities):
        option = "--label=WORDS" if clashes[0].kind == LABEL else f"--modalities={clashes[0].kind}=WORDS"
        expected = f"one, chosen by the end or a pattern of its path: {option}"
        raise InputError(f"--root={data.root}", clashes[0], expected)


def _modalities(
    data: DataSet, counts: Counter[str], subjects: int, naming: Naming, keep_missing: bool
) -> tuple[str, ...]:
    """Return the requested modalities, else those of every subject or, with `keep_missing`, of any subject."""
    if not subjects:
        raise InputError(f"--root={data.root}", "no image whose name ends with a modality", "--modalities=T1=WORDS")
    if naming.modalities is not None:
        for modality in naming.modalities:
            if modality not in counts:
                option = f"--modalities={','.join(naming.modalities)}"
                raise InputError(option, f"no {modality} in {data.root}", f"some of {', '.join(counts)}")
        return naming.modalities
    rank = [*data.order, *SPELLINGS]
    ordered = sorted(counts, key=lambda name: (rank.index(name) if name in rank else len(rank), name))
    if keep_missing:
        return tuple(ordered)
    partly = ", ".join(
        f"{name} (in {counts[name]} of {subjects} subjects)" for name in ordered if counts[name] < subjects
    )
    common = tuple(name for name in ordered if counts[name] == subjects)
    if not common:
        raise InputError(f"--root={data.root}", f"no modality that every subject has: {partly}", "--modalities")
    if partly:
        show(f"modalities left out, as not every subject has them: {partly}")
    return common


def _convention(
    data: DataSet, subjects: list[SubjectFiles], naming: Naming, regions: str | None, workers: int, is_asking: bool
) -> str | None:
    """Return `regions`, else the layout's convention, else regions from the label values; None without label maps."""
    labels = [subject.label for subject in subjects if subject.label is not None]
    if not labels:
        if naming.label is not None:
            raise InputError(f"--label={naming.label}: matches no label map in {data.root}")
        if regions is not None:
            raise InputError(f"--regions: no label map in {data.root}; expected --label=WORDS")
        return None
    if (convention := regions or data.convention) is None:
        return from_labels(data.root, labels, workers, is_asking)
    show(f"regions: {convention}")
    return convention
