"""Read what the tables of FOMO-300K and OpenMind state of scans: sequences, and people who are in two data sets."""

import csv
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

from common.data.names import MOST, in_folders, modality_of

OPENMIND = "OpenMind/"  # the folder to which the paths in OpenMind's table are relative
TABLES = {  # name -> column of paths, columns whose words state the sequence, the most reliable last
    "mapping.tsv": ("new_path", ["old_filename"]),
    "mri_info.tsv": ("filename", ["ProtocolName", "SeriesDescription"]),
    "openneuro_metadata.csv": ("image_path", ["modality"]),
}
NUMBER = re.compile(r"(?<![A-Za-z0-9])0*([A-Za-z]*[1-9]\d{4,})(?![A-Za-z0-9])")  # of a person: 0010001, A00035072


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
    """Map the people whose number occurs in several data sets, once in each, to the first of them.

    Example:
        >>> joined_people({"A/sub-1": "10001", "B/sub-9": "10001", "B/sub-2": "10002"})
        {'A/sub-1': 'A/sub-1', 'B/sub-9': 'A/sub-1'}
    """
    groups = defaultdict(list)
    for person, number in sorted(number_of.items()):
        groups[number].append(person)
    joined: dict[str, str] = {}
    for people in groups.values():
        datasets = {person.rpartition("/")[0] for person in people}
        if 1 < len(datasets) == len(people):
            joined |= dict.fromkeys(people, people[0])
    return joined
