"""Build a datalist: scan a folder, select and split visits, write the file."""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from common.data import datalists
from common.data.modalities import SPELLINGS
from common.data.people import person_of
from common.data.scan_checks import read_scan
from common.data.volumes import canonical
from common.errors import InputError, show
from common.files import read_json
from scripts.datalists.files import write_datalist
from scripts.datalists.people import describe_people
from scripts.datalists.regions import from_labels
from scripts.datalists.splits import Split
from scripts.layouts.names import LABEL
from scripts.layouts.patterns import Naming
from scripts.layouts.reading import read_layout
from scripts.layouts.subjects import DataSet, SubjectFiles
from scripts.pools import map_in_processes
from scripts.prepare.settings import RECORD


class Scan(NamedTuple):
    """The subjects' visits found in a folder, their modalities and label convention."""

    name: str  # of the datalist
    modalities: tuple[str, ...]
    convention: str | None  # label convention as text; None without label maps
    visits: list[SubjectFiles]  # sorted by name, each with its person

    def people(self, visits: Sequence[SubjectFiles]) -> list[str]:
        """Return the people with these visits, sorted, without the people that the layout reserves for testing."""
        return sorted({visit.person for visit in visits} - {visit.person for visit in self.visits if visit.is_test})

    def describe_people(self) -> str:
        """Describe who is taken for a person."""
        return describe_people({visit.name: visit.person for visit in self.visits})

    def reduced(self, text: str, visits: list[SubjectFiles]) -> "Scan":
        """Return a scan with some of the visits; if they are fewer, print how many people and visits remain."""
        if len(visits) < len(self.visits):
            people, everyone = (len({visit.person for visit in group}) for group in (visits, self.visits))
            show(f"{text}: {people} of {everyone} people, {len(visits)} of {len(self.visits)} visits")
        return self._replace(visits=visits)


def scan_any(
    root: Path,
    *,
    naming: Naming,
    regions: str | None = None,
    person: Callable[[str], str] | None = None,
    keep_missing: bool = False,
    workers: int = 0,
) -> Scan:
    """Scan any data set and print its layout, modalities and regions, which are read from the label maps if None.

    `person` takes a subject's name and returns the person. If `naming` lists no modalities, those of every subject are
    taken or, with `keep_missing`, those of any subject.
    """
    data = read_layout(root, naming, regions is None)
    subjects = [subject for _, subject in sorted(data.subjects.items()) if subject.images]
    counts = Counter(modality for subject in subjects for modality in subject.images)
    data.show_unused(naming.modalities or counts)
    refuse_clashes(data, naming.modalities or counts)
    modalities = _modalities(data, counts, len(subjects), naming.modalities, keep_missing)
    show(f"subjects: {len(subjects)}, modalities: {', '.join(modalities)}")
    labels = [subject.label for subject in subjects if subject.label is not None]
    if not labels and (regions is not None or LABEL in naming.words):
        raise InputError(f"--root={root}", "no label map", "--label=WORDS, the end or a pattern of their paths")
    convention = (regions or data.convention) if labels else None
    if labels and convention is None:
        convention = from_labels(data.root, labels, workers)
    elif convention is not None:
        show(f"regions: {convention}")
    for subject in subjects:
        subject.person = person(subject.name) if person else subject.person
    scan = Scan(root.resolve().name or "data", modalities, convention, subjects)
    show(f"people: {scan.describe_people()}")
    return scan


def refuse_clashes(data: DataSet, modalities: Collection[str]) -> None:
    """Raise an InputError if two files fit the same label map or image of these modalities."""
    for name, kind in data.clashes:
        if kind in (LABEL, *modalities):
            option = "--label=WORDS" if kind == LABEL else f"--modalities={kind}=WORDS"
            expected = f"one, by the end or a pattern of its path ({option}), or --pattern to tell subjects apart"
            raise InputError(f"--root={data.root}", data.problem(name, kind), expected)


def _modalities(
    data: DataSet, counts: Counter[str], subjects: int, wanted: tuple[str, ...] | None, keep_missing: bool
) -> tuple[str, ...]:
    """Return the wanted modalities, else those of every subject or, with `keep_missing`, of any subject."""
    if wanted is not None:
        if lacking := [modality for modality in wanted if modality not in counts]:
            raise InputError(f"--modalities: no {lacking[0]} in {data.root}", expected=f"some of {', '.join(counts)}")
        return wanted
    rank = [*data.order, *SPELLINGS]
    ordered = sorted(counts, key=lambda name: (rank.index(name) if name in rank else len(rank), name))
    common = tuple(name for name in ordered if keep_missing or counts[name] == subjects)
    if rare := [f"{name} (in {counts[name]} of {subjects} subjects)" for name in ordered if name not in common]:
        show(f"modalities left out, as not every subject has them: {', '.join(rare)}")
    if not common:
        raise InputError(f"--root={data.root}", "no modality that every subject has", "--modalities, or --pattern")
    return common


def select(
    scan: Scan,
    root: Path,
    *,
    keep_missing: bool = False,
    min_slices: int = 0,
    only_first: bool = False,
    workers: int = 0,
) -> Scan:
    """Return a scan with the visits that have all modalities or, with `keep_missing`, any; name each that lacks some.

    Optionally with `min_slices` axial slices with signal in each image, and only the first visit of each person.
    """
    visits = []
    for visit in scan.visits:
        missing = [modality for modality in scan.modalities if modality not in visit.files]
        is_kept = not missing or (keep_missing and len(missing) < len(scan.modalities))
        if missing:
            show(f"{'kept' if is_kept else 'left out'}: {visit.name} lacks {', '.join(missing)}")
        if is_kept:
            visits.append(visit)
    scan = scan.reduced(f"with {'some of ' if keep_missing else ''}{', '.join(scan.modalities)}", visits)
    if min_slices:
        images = [[f"{root}/{visit.files[modality]}" for modality in scan.modalities] for visit in scan.visits]
        counts = map_in_processes(slices_with_signal, images, workers, "visit", "slices with signal")
        few = {visit.name: count for visit, count in zip(scan.visits, counts, strict=True) if count < min_slices}
        show(*(f"left out: {name}: slices with signal: {count} (-1: unreadable)" for name, count in few.items()))
        visits = [visit for visit in scan.visits if visit.name not in few]
        scan = scan.reduced(f"with {min_slices} slices or more in each", visits)
    if only_first:
        firsts = {visit.person: visit.name for visit in reversed(scan.visits)}
        scan = scan.reduced("first visits", [visit for visit in scan.visits if firsts[visit.person] == visit.name])
    return scan


def slices_with_signal(images: Sequence[str]) -> int:
    """Return the fewest slices, along the axis nearest to z, with a voxel above zero; -1 if an image is unreadable."""
    try:
        scans = [canonical(voxels, scan.affine)[0] for scan, voxels in map(read_scan, images)]
    except InputError:
        return -1
    return min(int((voxels > 0).any(axis=(0, 1)).sum()) for voxels in scans)


def write_split(scan: Scan, root: Path, splits: Split, target: Path) -> None:
    """Assign the people of a scan to splits, and write the datalist.

    Held-out people go to testing. If only some visits have a label, the rest go to the split unlabelled.
    """
    if not scan.visits:
        raise InputError(f"--root={root}", "no complete subject", ", ".join(scan.modalities))
    is_labelled = any(visit.label for visit in scan.visits)
    unlabelled = {visit.name for visit in scan.visits if scan.convention is not None and visit.label is None}
    people = scan.people([visit for visit in scan.visits if visit.name not in unlabelled])
    split_of = {visit.person: "testing" for visit in scan.visits}  # unless drawn
    split_of |= splits.draw(people) if people else {}
    content: dict[str, Any] = {
        "name": scan.name,
        "modalities": list(scan.modalities),
        "label_convention": scan.convention if is_labelled else None,
        **_space_of(scan, root),
        **{name: [] for name in datalists.SPLITS if unlabelled or name != "unlabelled"},
    }
    for visit in scan.visits:
        person = {} if visit.person == person_of(visit.name) else {"person": visit.person}
        label = {} if visit.label is None else {"label": visit.label}
        entry = {"subject": visit.name, **person, "image": [visit.files.get(name) for name in scan.modalities], **label}
        content["unlabelled" if visit.name in unlabelled else split_of[visit.person]].append(entry)
    if unlabelled:
        show(f"visits without a label map, in the split unlabelled: {len(unlabelled)}, such as {min(unlabelled)}")
    write_datalist(content, target)


def _space_of(scan: Scan, root: Path) -> dict[str, str]:
    """Return the space that scripts.prepare recorded beside the visits; empty without records. Refuse two spaces."""
    folders = {(root / file).parent for visit in scan.visits for file in visit.files.values()}
    records = [read_json(folder / RECORD) for folder in folders if (folder / RECORD).is_file()]
    spaces = sorted({record["settings"]["like"] for record in records if "settings" in record})
    if len(spaces) > 1:
        raise InputError(f"--root={root}", f"scans prepared for {' and '.join(spaces)}", "the same --like for all")
    return {"space": spaces[0]} if spaces else {}
