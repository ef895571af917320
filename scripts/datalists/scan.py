"""Scan a folder for a datalist: people's visits, their modalities and the label convention."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from common.data.layouts.cohorts import read_cohort
from common.data.layouts.listing import Listing, list_images
from common.data.layouts.names import LABEL, Naming
from common.data.layouts.reading import LAYOUTS, SPECIAL, choosing, layouts_of, read_layout
from common.data.layouts.subjects import Clash, DataSet, SubjectFiles, person_of
from common.data.modalities import SPELLINGS
from common.errors import InputError, shortened, show
from common.files import reporting_path_errors
from scripts.datalists.regions import from_labels

FORMS = "SUBJECT/SUBJECT_T1.nii.gz, SUBJECT_T1.nii.gz, sub-*/anat, or imagesTr and dataset.json"


class Visit(NamedTuple):
    """A person's scans of one day; visits sort by name."""

    subject: str  # name of the visit
    person: str
    image: tuple[str, ...] = ()  # for each modality a path below the root; "" if missing
    label: str | None = None  # path of the lesion mask
    missing: tuple[str, ...] = ()  # modalities without a file


class Scan(NamedTuple):
    """A scanned folder."""

    name: str  # of the datalist
    title: str  # of the layout
    modalities: tuple[str, ...]  # in the order of each visit's images
    convention: str | None  # label convention as text; None without masks
    visits: list[Visit]  # sorted by name
    held_out: frozenset[str]  # people that the layout reserves for testing


def scan_cohort(root: Path, cohort: str, convention: str | None = None) -> Scan:
    """Scan the folder of a cohort, a key of `COHORTS`; `convention` overrides the layout's labels."""
    data = read_cohort(cohort, root)
    modalities = tuple(data.order)
    show(*data.account(modalities), *([] if convention else data.remarks))
    visits = [_visit(subject, str(subject.person), modalities) for subject in data.subjects.values()]
    return Scan(cohort, data.layout, modalities, convention or data.convention, visits, frozenset())


def scan_any(
    root: Path,
    *,
    naming: Naming,
    layout: str | None = None,
    regions: str | None = None,
    person: Callable[[str], str] | None = None,
    keep_missing: bool = False,
    workers: int = 0,
) -> Scan:
    """Scan any data set and print what was recognised; None leaves layout, regions or people to be recognised.

    `person` leads from a subject's name to the person. Without modalities in `naming`,
    those that all subjects have are taken or, with `keep_missing`, those that any subject has.
    """
    with reporting_path_errors(f"--root={root}", "a folder of scans"):
        listing = list_images(root)
    name = layout or _layout(listing, naming)
    data = read_layout(name, listing, naming, states_regions=regions is None)
    subjects = [subject for _, subject in sorted(data.subjects.items()) if subject.images]
    try:
        _refuse_clashes(data, name, naming)
        modalities = _modalities(data, subjects, naming, keep_missing)
    except InputError:
        show(*data.account(naming.modalities or _counts(subjects)))
        raise
    show(*data.account(modalities))
    show(f"layout: {name} ({data.layout}), {len(subjects)} subjects; modalities: {', '.join(modalities)}")
    convention = _convention(data, subjects, naming, regions, workers)
    people = {
        subject.name: person(subject.name) if person else subject.person or person_of(subject.name)
        for subject in subjects
    }
    visits = [_visit(subject, people[subject.name], modalities) for subject in subjects]
    held_out = frozenset(people[subject] for subject in data.held_out if subject in people)
    return Scan(root.resolve().name or "data", f"the layout {name}", modalities, convention, visits, held_out)


def _layout(listing: Listing, naming: Naming) -> str:
    """The layout that is recognised in a root."""
    found = layouts_of(listing, naming)
    if len(found) > 1:
        options = " or ".join(f"--layout={name}" for name in found)
        raise InputError(f"--root={listing.root}: looks like {' and '.join(found)}; expected {options}")
    if not found:
        there = shortened(list(listing.tops), most=4) or "no folder"
        raise InputError(f"--root={listing.root}: no data set of a known layout; expected {FORMS}; found {there}")
    return found[0]


def _refuse_clashes(data: DataSet, layout: str, naming: Naming) -> None:
    """Refuse two files for one image or label map, and name options that choose."""
    if clashes := _wanted(data, naming):
        subject, kind, files = clashes[0]
        options = " ".join(f"--{name}={value}" for name, value in remedy(data, layout, naming).items())
        expected = f"a choice, such as {options}" if options else "one, as no words or pattern give each subject one"
        raise InputError(
            f"--root={data.root}: two files for the {kind} of {subject}: {' and '.join(files)}; expected {expected}"
        )


def _wanted(data: DataSet, naming: Naming) -> list[Clash]:
    return [clash for clash in data.clashes if clash.kind in (LABEL, *(naming.modalities or (clash.kind,)))]


def remedy(data: DataSet, layout: str, naming: Naming) -> dict[str, str]:
    """The options with which most subjects have one file of each kind; found by trying, and empty without any."""
    best: dict[str, str] = {}
    most = 0
    for name in dict.fromkeys([layout] if layout in SPECIAL else [layout, "flat"]):
        again = data if name == layout else LAYOUTS[name].read(data.listing, naming)
        kinds = dict.fromkeys(clash.kind for clash in _wanted(again, naming))
        chosen = {kind: choosing(again, name, naming, kind) for kind in kinds}
        count = min([count for _, count in chosen.values()] or [len(again.subjects)])
        if count > most:
            words = {kind: str(found) for kind, (found, _) in chosen.items()}
            there = {kind for subject in again.subjects.values() for kind in subject.images}
            modalities = naming.modalities or sorted(there | {*words} - {LABEL})
            most, best = count, {"layout": name} if name != layout else {}
            if words.keys() - {LABEL}:
                named = [f"{kind}={words[kind]}" if kind in words else kind for kind in modalities]
                best["modalities"] = ",".join(named)
            best |= {"label": words[LABEL]} if LABEL in words else {}
    return best


def _counts(subjects: Sequence[SubjectFiles]) -> Counter[str]:
    """The number of subjects that have each modality."""
    return Counter(modality for subject in subjects for modality in subject.images)


def _modalities(data: DataSet, subjects: list[SubjectFiles], naming: Naming, keep_missing: bool) -> tuple[str, ...]:
    """The requested modalities or, by default, those that every subject has (any subject with `keep_missing`)."""
    if not subjects:
        spelled = ", ".join(f"_{words[0]}" for words in list(SPELLINGS.values())[:4])
        raise InputError(
            f"--root={data.root}: no image whose name ends with a modality, such as {spelled}; "
            f"--modalities=T1=WORDS names the words that end them"
        )
    counts = _counts(subjects)
    if naming.modalities is not None:
        for modality in naming.modalities:
            if modality not in counts:
                raise InputError(
                    f"--modalities={','.join(naming.modalities)}: no {modality} in {data.root}; "
                    f"expected some of {', '.join(counts)}"
                )
        return naming.modalities
    rank = [*data.order, *SPELLINGS]
    known = sorted(counts, key=lambda name: (rank.index(name) if name in rank else len(rank), name))
    if keep_missing:
        return tuple(known)
    partly = ", ".join(
        f"{name} (in {counts[name]} of {len(subjects)} subjects)" for name in known if counts[name] < len(subjects)
    )
    common = tuple(name for name in known if counts[name] == len(subjects))
    if not common:
        expected = f"a choice, such as --modalities={max(known, key=lambda name: counts[name])}"
        raise InputError(f"--root={data.root}: no modality that every subject has: {partly}; expected {expected}")
    if partly:
        show(f"left out, as not every subject has them: {partly}; --modalities={','.join(known)} includes them")
    return common


def _convention(
    data: DataSet, subjects: list[SubjectFiles], naming: Naming, regions: str | None, workers: int
) -> str | None:
    """The label convention as given, as the layout states it, or from the label maps; None without label maps."""
    labels = [subject.label for subject in subjects if subject.label is not None]
    if not labels:
        if naming.label is not None:
            raise InputError(f"--label={naming.label}: no label map in {data.root} has a name that ends so")
        if regions is not None:
            raise InputError(f"--regions: {regions}, but no label map in {data.root}; --label=WORDS names their ends")
        return None
    if (convention := regions or data.convention) is None:
        return from_labels(data.root, labels, workers)
    show(f"regions: {convention}")
    return convention


def _visit(subject: SubjectFiles, person: str, modalities: Sequence[str]) -> Visit:
    image = tuple(subject.images.get(modality, "") for modality in modalities)
    missing = tuple(modality for modality in modalities if modality not in subject.images)
    return Visit(subject.name, person, image, subject.label, missing)
