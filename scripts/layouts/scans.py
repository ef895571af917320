"""Find the single scans of a folder, each with its person and sequence: FOMO-60K, FOMO-300K, OpenMind, and others.

Tables of FOMO-300K and OpenMind state sequences, and which people are in two data sets.
"""

import csv
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

from common.data.names import ANY, MOST, SUFFIX, in_folders, modality_of, person_of
from common.errors import shortened, show
from scripts.layouts.paths import ANATOMY, LABEL, Naming, compile_pattern, name_of, words_of
from scripts.layouts.reading import DataSet, Subject, list_images, read_layout

MASK = "mask"
# PT001_OASIS1/sub_1/ses_1/t1, PT030_OpenNeuro/ds000001/sub-01/ses-01/anat/sub-01_ses-01_T1w, ds000001/sub-01/anat/...
COLLECTION = compile_pattern(
    "{dataset}{subject}/{session}{folders}{name}",
    {"dataset": "(?:[^/]+/)*?", "subject": "sub[-_][^/]+", "session": "(?:ses[-_][^/]+/)?", "folders": "(?:[^/]+/)*"},
)
NO_SCANS = re.compile(  # copies of scans, time series, field maps, parts of complex images
    "(?:^|/)(?:derivatives|sourcedata|func|fmap|perf)/|_part-(?:phase|real|imag)_"
)
COUNT = re.compile(r"(?:[_-](?:run-?\d+|bval[_-]?\d+|trace|\d+))+$")  # follows a sequence: t1_2, dwi_bval1000
OPENMIND = "OpenMind/"  # the folder to which the paths in OpenMind's table are relative
TABLES = {  # name -> column of paths, columns whose words state the sequence, the most reliable last
    "mapping.tsv": ("new_path", ["old_filename"]),
    "mri_info.tsv": ("filename", ["ProtocolName", "SeriesDescription"]),
    "openneuro_metadata.csv": ("image_path", ["modality"]),
}
NUMBER = re.compile(r"(?<![A-Za-z0-9])0*([A-Za-z]*[1-9]\d{4,})(?![A-Za-z0-9])")  # of a person: 0010001, A00035072


def find_scans(root: Path, pattern: str | None = None) -> tuple[DataSet, dict[str, list[str]]]:
    """Return the scans below a folder, each as a subject, and the other images by the reason; open no image.

    The layout is `pattern`, else that of the collections or, if no file has it, the one that `read_layout` finds.
    """
    layout = COLLECTION
    if pattern is not None:
        show(f"layout: {pattern}")
        layout = compile_pattern(words_of(str(pattern), f"--pattern={pattern}"))
    scans, left_out = DataSet(str(root), list_images(root), [ANY]), defaultdict[str, list[str]](list)
    matches = {image: layout.fullmatch(SUFFIX.sub("", image)) for image in scans.images if not NO_SCANS.search(image)}
    collections = {match.groupdict().get("dataset", "") for match in matches.values() if match}
    stated, numbers = read_tables(root, collections)
    number_of: dict[str, str] = {}
    for image in scans.images:
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
        _add(scans, title, person, image, sequence or stated.get(path, ""))
        if path in numbers:
            number_of.setdefault(person, numbers[path])
    if pattern is None and not scans.subjects:
        return _by_names(root, scans)
    if joined := joined_people(number_of):
        for scan in scans.subjects.values():
            scan.person = joined.get(scan.person, scan.person)
        people = [f"{person} as {first}" for person, first in joined.items() if person != first]
        show(f"people of two data sets, by their numbers in mapping.tsv: {shortened(people, most=3)}")
    return scans, left_out


def _by_names(root: Path, scans: DataSet) -> tuple[DataSet, dict[str, list[str]]]:
    """Add the scans that `read_layout` finds, also several of a modality."""
    data = read_layout(root, Naming((ANY,)))  # without T1, so that an unclear T1 is no question
    for name, subject in data.subjects.items():
        for kind, first in subject.images.items():
            for path in data.clashes.get((name, kind), [first]):
                _add(scans, f"{name}_{kind}", subject.person, path, kind).is_test = subject.is_test
    used = {subject.files[ANY] for subject in scans.subjects.values()}
    unused = [image for image in scans.images if image not in used]
    return scans, {"masks, or no modality in the name (give --pattern)": unused}


def _add(scans: DataSet, name: str, person: str, path: str, sequence: str) -> Subject:
    """Add a scan as a subject, whose name gets a number if another scan has it."""
    unique, count = name[-190:], 1
    while unique in scans.subjects:
        count += 1
        unique = f"{name[-190:]}_{count}"
    scans.subjects[unique] = Subject(unique, person, {ANY: path}, sequence=sequence)
    return scans.subjects[unique]


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
