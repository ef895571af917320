"""Write the datalist of a collection of scans for self-supervised training: `python -m scripts.datalists scans`."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from common.data.names import ANY, modality_of
from common.errors import show
from common.values import names_of
from scripts.datalists.build import write_split
from scripts.datalists.files import output_file
from scripts.datalists.people import describe_people, person_finder
from scripts.datalists.splits import Split
from scripts.layouts.scans import find_scans

NOT_STATED = "not stated"


def write_scans(
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
        person: regular expression whose first group is the person in a subject's name, as for generic; by default the
            folder of the person in the collections.
        validation: number or fraction of people for validation.
        testing: number or fraction of people for testing; or all.
        seed: seed of the random choice, 0 or more.
    """
    splits, target = Split(validation, testing, seed, least=2), output_file(output)
    finder = None if person is None else person_finder(person)
    found, left_out = find_scans(Path(root).expanduser(), pattern)
    found.name = Path(root).expanduser().resolve().name or "data"
    scans = [*found.subjects.values()]
    counts = Counter(scan.sequence or NOT_STATED for scan in scans)
    show(f"sequences: {', '.join(f'{name} {count}' for name, count in counts.most_common()) or 'none'}")
    if sequences is not None:
        wanted = {_key(name) for name in names_of(sequences)}
        left_out["other sequences"] = [scan.files[ANY] for scan in scans if _key(scan.sequence) not in wanted]
        scans = [scan for scan in scans if _key(scan.sequence) in wanted]
    for reason, paths in left_out.items():
        if paths:
            show(f"left out: {reason}: {len(paths)}, such as {', '.join(paths[:3])}")
    for scan in scans:
        scan.person = finder(scan.name) if finder else scan.person
    show(f"scans: {len(scans)}, people: {describe_people({scan.name: scan.person for scan in scans})}")
    found.subjects = {scan.name: scan for scan in scans}
    write_split(found, splits, target)


def _key(sequence: str | None) -> str:
    """Return a sequence's name in lower case, so that T1w is T1."""
    return (modality_of(sequence or "") or sequence or NOT_STATED).lower()
