"""Datalists of single scans, each with its person and sequence: `python -m scripts.datalists scans`.

FOMO-60K, FOMO-300K, OpenMind and other collections, for self-supervised training. Tables of FOMO-300K and OpenMind
state sequences, and which people are in two data sets.
"""

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from common.data.names import ANY, MOST, SUFFIX, in_folders, modality_of, person_of
from common.errors import shortened, show
from common.values import names_of
from scripts.datalists.build import write_split
from scripts.datalists.files import name_people
from scripts.datalists.splits import Split
from scripts.layouts.paths import ANATOMY, LABEL, Naming, compile_pattern, name_of, words_of
from scripts.layouts.reading import PARTS, DataSet, Subject, list_images, read_layout

MASK = "mask"
# PT001_OASIS1/sub_1/ses_1/t1, PT030_OpenNeuro/ds000001/sub-01/ses-01/anat/sub-01_ses-01_T1w, ds000001/sub-01/anat/...
COLLECTION = compile_pattern(
    "{dataset}{subject}/{session}{folders}{name}",
    {"dataset": "(?:[^/]+/)*?", "subject": "sub[-_][^/]+", "session": "(?:ses[-_][^/]+/)?", "folders": "(?:[^/]+/)*"},
)
NO_SCANS = re.compile(f"(?:^|/)(?:derivatives|sourcedata|func|fmap|perf)/|{PARTS.pattern}")  # copies, series, maps
COUNT = re.compile(r"(?:[_-](?:run-?\d+|bval[_-]?\d+|trace|\d+))+$")  # follows a sequence: t1_2, dwi_bval1000
OPENMIND = "OpenMind/"  # the folder to which the paths in OpenMind's table are relative
TABLES = {  # name -> column of paths, columns whose words state the sequence, the most reliable last
    "mapping.tsv": ("new_path", ["old_filename"]),
    "mri_info.tsv": ("filename", ["ProtocolName", "SeriesDescription"]),
    "openneuro_metadata.csv": ("image_path", ["modality"]),
}
NUMBER = re.compile(r"(?<![A-Za-z0-9])0*([A-Za-z]*[1-9]\d{4,})(?![A-Za-z0-9])")  # of a person: 0010001, A00035072


def scans(
    root: str,
    output: str,
    sequences: str | Sequence[str] | None = None,
    pattern: str | None = None,
    person: str | None = None,
    validation: float = 0.01,
    testing: float | str = 0,
    seed: int = 0,
) -> None:
    """Write a datalist in which every scan is a subject of the one modality MR, for self-supervised training.

    FOMO-60K, FOMO-300K and OpenMind are read as published, with their tables; other folders as by generic.

    Args:
        root: folder of the scans; none is opened.
        output: the datalist, a JSON file.
        sequences: sequences to take, such as T1w,T2w,FLAIR; by default all, also those that nothing states.
        pattern: pattern of all paths below `root`, such as {subject}/{session}/{modality}; only {subject} is needed.
        person: as for generic; by default the folder of the person in the collections.
        validation: number or fraction of people for validation.
        testing: number or fraction of people for testing; or all.
        seed: seed of the random choice, 0 or more.
    """
    splits, folder = Split(validation, testing, seed, least=2), Path(root).expanduser()
    data, left_out = find_scans(folder, pattern)
    data.name = folder.resolve().name or "data"
    counts = Counter(scan.sequence or "not stated" for scan in data.subjects.values())
    show(f"sequences: {', '.join(f'{name} {count}' for name, count in counts.most_common()) or 'none'}")
    if sequences is not None:
        wanted = {(modality_of(name) or name).lower() for name in names_of(sequences)}  # T1w is T1
        others = [scan for scan in data.subjects.values() if (scan.sequence or "").lower() not in wanted]
        left_out["other sequences"] = [data.subjects.pop(scan.name).files[ANY] for scan in others]
    for reason, paths in left_out.items():
        if paths:
            show(f"left out: {reason}: {len(paths)}, such as {', '.join(paths[:3])}")
    name_people(data.subjects.values(), person)
    write_split(data, splits, output)


def find_scans(root: Path, pattern: str | None = None) -> tuple[DataSet, dict[str, list[str]]]:
    """Return the scans below a folder, each as a subject, and the other images by the reason; open no image.

    The layout is `pattern`, else that of the collections or, if no file has it, the one that `read_layout` finds.
    """
    layout = COLLECTION
    if pattern is not None:
        show(f"layout: {pattern}")
        layout = compile_pattern(words_of(str(pattern), f"--pattern={pattern}"))
    singles, left_out = DataSet(str(root), list_images(root), [ANY]), defaultdict[str, list[str]](list)
    matches = {image: layout.fullmatch(SUFFIX.sub("", image)) for image in singles.images if not NO_SCANS.search(image)}
    collections = {match.groupdict().get("dataset", "") for match in matches.values() if match}
    stated, numbers = read_tables(root, collections)
    number_of: dict[str, str] = {}
    for image in singles.images:
        match = matches.get(image)
        if match is None:
            left_out["not in this layout (give --pattern)"].append(image)
            continue
        fields = {"dataset": "", "session": "", "folders": ""} | match.groupdict()
        subject, session = fields["subject"], fields["session"].rstrip("/")
        *folders, stem = SUFFIX.sub("", image).split("/")
        name = stem.removeprefix(f"{subject}_").removeprefix(f"{session}_")
        sequence = sequence_of(fields.get("modality", name), fields["folders"])
        if MASK in (sequence, sequence_of(name)):
            left_out["masks"].append(image)
            continue
        path = image.removeprefix(OPENMIND)
        person = fields["dataset"] + (subject if session else person_of(subject))
        title = "_".join([*(folder for folder in folders if folder not in stem), stem])
        _add(singles, title, person, image, sequence or stated.get(path, ""))
        if path in numbers:
            number_of.setdefault(person, numbers[path])
    if pattern is None and not singles.subjects:
        return _by_names(root, singles)
    if joined := joined_people(number_of):
        for scan in singles.subjects.values():
            scan.person = joined.get(scan.person, scan.person)
        people = [f"{person} as {first}" for person, first in joined.items() if person != first]
        show(f"people of two data sets, by their numbers in mapping.tsv: {shortened(people, most=3)}")
    return singles, left_out


def _by_names(root: Path, singles: DataSet) -> tuple[DataSet, dict[str, list[str]]]:
    """Add the scans that `read_layout` finds, also several of a modality."""
    data = read_layout(root, Naming((ANY,)))  # without T1, so that an unclear T1 is no question
    for name, subject in data.subjects.items():
        for kind, first in subject.images.items():
            for path in data.clashes.get((name, kind), [first]):
                _add(singles, f"{name}_{kind}", subject.person, path, kind).is_test = subject.is_test
    used = {subject.files[ANY] for subject in singles.subjects.values()}
    unused = [image for image in singles.images if image not in used]
    return singles, {"masks, or no modality in the name (give --pattern)": unused}


def _add(singles: DataSet, name: str, person: str, path: str, sequence: str) -> Subject:
    """Add a scan as a subject, whose name gets a number if another scan has it."""
    unique, count = name[-190:], 1
    while unique in singles.subjects:
        count += 1
        unique = f"{name[-190:]}_{count}"
    singles.subjects[unique] = Subject(unique, person, {ANY: path}, sequence=sequence)
    return singles.subjects[unique]


@cache
def sequence_of(name: str, folders: str = "") -> str:
    """Return what a scan's name states: a modality, its last word, or `MASK`; "" for a number or "scan".

    Example:
        >>> [sequence_of(name) for name in ("t1_2", "run-1_T1w", "dwi_bval1000", "angio", "T1w_anon_mask", "scan_1")]
        ['T1', 'T1', 'DWI', 'angio', 'mask', '']
    """
    stem = COUNT.sub("", name)
    kind = name_of(stem)[1]
    last = re.split("[_.-]", stem)[-1]
    if kind in (LABEL, ANATOMY) or last.lower().endswith((MASK, "seg")):  # defacemask, probseg
        return MASK
    return in_folders(kind, folders.split("/")) or ("" if last.isdecimal() or last.lower() == "scan" else last)


def read_tables(root: Path, datasets: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return what tables state of scans, by path: sequences, and people's numbers in the original data sets.

    The tables lie in `root` or in the folders of its data sets, which are paths below it that end with "/".
    """
    sequences, numbers = dict[str, str](), dict[str, str]()
    for folder in sorted({"", OPENMIND, *datasets}):
        for table, (column, texts) in TABLES.items():
            for row in _rows(root / folder / table):
                above = f"{row['dataset']}/" if row.get("dataset") and not folder else folder
                path = above.removeprefix(OPENMIND) + (row.get(column) or "")
                for sequence in filter(None, (sequence_in(row.get(text) or "") for text in texts)):
                    sequences[path] = sequence
                if number := NUMBER.search(row.get("old_path") or ""):
                    numbers[path] = number[1]
    return sequences, numbers


def _rows(file: Path) -> Iterator[Mapping[str, str | None]]:
    if file.is_file():
        with file.open(encoding="utf-8-sig", errors="replace", newline="") as content:
            yield from csv.DictReader(content, delimiter="\t" if file.suffix == ".tsv" else ",")


@cache
def sequence_in(text: str) -> str | None:
    """Return the modality that the words of a description state; None if they state none, or several.

    Example:
        >>> [sequence_in(text) for text in ("t1_mprage", "T1 SE post Gd", "t2_tirm_dark-fluid", "T1 and T2", "rest")]
        ['T1', 'T1ce', 'FLAIR', None, None]
    """
    words = re.split(r"[^A-Za-z0-9+*]+", re.sub("(?i)dark.?fluid", "FLAIR", text))
    spans = [words[start:end] for start in range(len(words)) for end in range(start + 1, start + 1 + MOST)]
    stated = {modality_of("".join(span)) for span in spans} - {None}
    for special, plain in (("FLAIR", "T2"), ("T1ce", "T1")):
        if stated == {special, plain}:
            stated = {special}
    return in_folders(stated.pop(), [text]) if len(stated) == 1 else None


def joined_people(number_of: Mapping[str, str]) -> dict[str, str]:
    """Map the people whose number occurs in several data sets, once in each, to the first of them."""
    groups = defaultdict(list)
    for person, number in sorted(number_of.items()):
        groups[number].append(person)
    joined: dict[str, str] = {}
    for people in groups.values():
        datasets = {person.rpartition("/")[0] for person in people}
        if 1 < len(datasets) == len(people):
            joined |= dict.fromkeys(people, people[0])
    return joined
