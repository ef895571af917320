"""Find the single scans of a folder, each with its person and sequence: FOMO-60K, FOMO-300K, OpenMind, and others."""

import re
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import NamedTuple

from common.data.modalities import in_folders
from common.errors import shortened, show
from scripts.layouts.listing import list_images
from scripts.layouts.names import ANATOMY, LABEL, name_of
from scripts.layouts.patterns import Naming, Pattern, words_of
from scripts.layouts.reading import read_layout
from scripts.layouts.tables import OPENMIND, joined_people, read_tables

MODALITY = "MR"  # the only channel of each scan
MASK = "mask"
# PT001_OASIS1/sub_1/ses_1/t1, PT030_OpenNeuro/ds000001/sub-01/ses-01/anat/sub-01_ses-01_T1w, ds000001/sub-01/anat/...
COLLECTION = Pattern(
    "{dataset}{subject}/{session}{folders}{name}",
    {"dataset": "(?:[^/]+/)*?", "subject": "sub[-_][^/]+", "session": "(?:ses[-_][^/]+/)?", "folders": "(?:[^/]+/)*"},
)
NO_SCANS = re.compile("(?:^|/)(?:derivatives|sourcedata|func|fmap)/")  # copies of scans, time series, field maps
COUNT = re.compile(r"(?:[_-](?:run-?\d+|bval[_-]?\d+|trace|\d+))+$")  # follows a sequence: t1_2, dwi_bval1000
UNFIT = "not in this layout (give --pattern)"
UNNAMED = "masks, or no modality in the name (give --pattern)"


class Scan(NamedTuple):
    """A scan: its subject's name in a datalist, the person, the path, and the sequence if anything states it."""

    subject: str
    person: str
    path: str
    sequence: str | None
    is_test: bool = False  # whether the layout reserves it for testing


def find_scans(root: Path, pattern: str | None = None) -> tuple[list[Scan], dict[str, list[str]]]:
    """Return the scans below a folder, and the other images by the reason that leaves them out; open no image.

    The layout is `pattern`, else that of the collections or, if no file has it, the one that `read_layout` finds.
    """
    if pattern is None:
        scans, left_out = _by_pattern(root, COLLECTION)
        return (scans, left_out) if scans else _by_names(root)
    show(f"layout: {pattern}")
    return _by_pattern(root, Pattern(words_of(str(pattern), f"--pattern={pattern}")))


def _by_pattern(root: Path, pattern: Pattern) -> tuple[list[Scan], dict[str, list[str]]]:
    images, left_out = list_images(root), defaultdict[str, list[str]](list)
    matches = {file: pattern.match(file.bare) for file in images if not NO_SCANS.search(file.path)}
    tables = read_tables(root, {fields.get("dataset", "") for fields in matches.values() if fields})
    scans, number_of = [], dict[str, str]()
    for file in images:
        fields = matches.get(file)
        if fields is None:
            left_out[UNFIT].append(file.path)
            continue
        session = fields.get("session", "").rstrip("/")
        name = file.stem.removeprefix(f"{fields['subject']}_").removeprefix(f"{session}_")
        sequence = sequence_of(fields.get("modality", name), fields.get("folders", ""))
        if MASK in (sequence, sequence_of(name)):
            left_out["masks"].append(file.path)
            continue
        path, person = file.path.removeprefix(OPENMIND), fields.get("dataset", "") + fields["subject"]
        subject = "_".join([*(folder for folder in file.folders if folder not in file.stem), file.stem])
        scans.append(Scan(subject, person, file.path, sequence or tables.sequences.get(path)))
        if path in tables.numbers:
            number_of.setdefault(person, tables.numbers[path])
    if joined := joined_people(number_of):
        people = [f"{person} as {first}" for person, first in joined.items() if person != first]
        show(f"people of two data sets, by their numbers in mapping.tsv: {shortened(people, most=3)}")
    return [scan._replace(person=joined.get(scan.person, scan.person)) for scan in scans], left_out


@cache
def sequence_of(name: str, folders: str = "") -> str | None:
    """Return what a scan's name states: a modality, its last word, or `MASK`; None for a number or "scan".

    Example:
        >>> [sequence_of(name) for name in ("t1_2", "run-1_T1w", "dwi_bval1000", "angio", "T1w_anon_mask", "scan_1")]
        ['T1', 'T1', 'DWI', 'angio', 'mask', None]
    """
    stem = COUNT.sub("", name)
    kind = name_of(stem)[1]
    if kind in (LABEL, ANATOMY):
        return MASK
    last = re.split("[_.-]", stem)[-1]
    return in_folders(kind, folders.split("/")) or (None if last.isdecimal() or last.lower() == "scan" else last)


def _by_names(root: Path) -> tuple[list[Scan], dict[str, list[str]]]:
    data = read_layout(root, Naming((MODALITY,), labels=False))  # without T1, so that an unclear T1 is no question
    scans = [
        Scan(f"{name}_{kind}", subject.person, path, kind, subject.is_test)
        for name, subject in sorted(data.subjects.items())
        for kind in subject.images
        for path in data.paths(name, kind)
    ]
    used = {scan.path for scan in scans}
    return scans, {UNNAMED: [file.path for file in data.images if file.path not in used]}
