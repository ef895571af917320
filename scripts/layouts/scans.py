"""Find the single scans of a folder, each with its person and sequence: FOMO-60K, FOMO-300K, OpenMind, and others."""

import re
from collections import defaultdict
from functools import cache
from pathlib import Path

from common.data.names import ANY, in_folders, person_of
from common.errors import shortened, show
from scripts.layouts.listing import list_images
from scripts.layouts.names import ANATOMY, LABEL, name_of
from scripts.layouts.patterns import Naming, Pattern, words_of
from scripts.layouts.reading import read_layout
from scripts.layouts.subjects import DataSet, Subject
from scripts.layouts.tables import OPENMIND, joined_people, read_tables

MASK = "mask"
# PT001_OASIS1/sub_1/ses_1/t1, PT030_OpenNeuro/ds000001/sub-01/ses-01/anat/sub-01_ses-01_T1w, ds000001/sub-01/anat/...
COLLECTION = Pattern(
    "{dataset}{subject}/{session}{folders}{name}",
    {"dataset": "(?:[^/]+/)*?", "subject": "sub[-_][^/]+", "session": "(?:ses[-_][^/]+/)?", "folders": "(?:[^/]+/)*"},
)
NO_SCANS = re.compile(  # copies of scans, time series, field maps, parts of complex images
    "(?:^|/)(?:derivatives|sourcedata|func|fmap|perf)/|_part-(?:phase|real|imag)_"
)
COUNT = re.compile(r"(?:[_-](?:run-?\d+|bval[_-]?\d+|trace|\d+))+$")  # follows a sequence: t1_2, dwi_bval1000


def find_scans(root: Path, pattern: str | None = None) -> tuple[DataSet, dict[str, list[str]]]:
    """Return the scans below a folder, each as a subject, and the other images by the reason; open no image.

    The layout is `pattern`, else that of the collections or, if no file has it, the one that `read_layout` finds.
    """
    if pattern is not None:
        show(f"layout: {pattern}")
        return _by_pattern(root, Pattern(words_of(str(pattern), f"--pattern={pattern}")))
    scans, left_out = _by_pattern(root, COLLECTION)
    if scans.subjects:
        return scans, left_out
    data = read_layout(root, Naming((ANY,)))  # without T1, so that an unclear T1 is no question
    scans.subjects = {}
    for name, subject in sorted(data.subjects.items()):
        for kind, first in subject.images.items():
            for path in data.clashes.get((name, kind), [first]):
                _add(scans, f"{name}_{kind}", subject.person, path, kind).is_test = subject.is_test
    used = {subject.files[ANY] for subject in scans.subjects.values()}
    unused = [file.path for file in scans.images if file.path not in used]
    return scans, {"masks, or no modality in the name (give --pattern)": unused}


def _by_pattern(root: Path, pattern: Pattern) -> tuple[DataSet, dict[str, list[str]]]:
    scans, left_out = DataSet(str(root), list_images(root), [ANY]), defaultdict[str, list[str]](list)
    matches = {file: pattern.match(file.bare) for file in scans.images if not NO_SCANS.search(file.path)}
    stated, numbers = read_tables(root, {fields.get("dataset", "") for fields in matches.values() if fields})
    number_of: dict[str, str] = {}
    for file in scans.images:
        fields = matches.get(file)
        if fields is None:
            left_out["not in this layout (give --pattern)"].append(file.path)
            continue
        subject, session = fields["subject"], fields.get("session", "").rstrip("/")
        name = file.stem.removeprefix(f"{subject}_").removeprefix(f"{session}_")
        sequence = sequence_of(fields.get("modality", name), fields.get("folders", ""))
        if MASK in (sequence, sequence_of(name)):
            left_out["masks"].append(file.path)
            continue
        path = file.path.removeprefix(OPENMIND)
        person = fields.get("dataset", "") + (subject if session else person_of(subject))
        title = "_".join([*(folder for folder in file.folders if folder not in file.stem), file.stem])
        _add(scans, title, person, file.path, sequence or stated.get(path, ""))
        if path in numbers:
            number_of.setdefault(person, numbers[path])
    if joined := joined_people(number_of):
        for scan in scans.subjects.values():
            scan.person = joined.get(scan.person, scan.person)
        people = [f"{person} as {first}" for person, first in joined.items() if person != first]
        show(f"people of two data sets, by their numbers in mapping.tsv: {shortened(people, most=3)}")
    return scans, left_out


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
