"""Write the datalist of a collection of scans for self-supervised training: `python -m scripts.datalists scans`."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.data.modalities import modality_of
from common.errors import InputError, show
from common.values import names_of
from scripts.datalists.files import output_file, write_datalist
from scripts.datalists.people import describe_people, person_finder
from scripts.datalists.splits import Split
from scripts.layouts.scans import MODALITY, find_scans

NOT_STATED = "not stated"


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
        person: regular expression whose first group is the person in a subject's name, as for generic; by default the
            folder of the person in the collections.
        validation: number or fraction of people for validation.
        testing: number or fraction of people for testing; or all.
        seed: seed of the random choice, 0 or more.
    """
    splits, target, folder = Split(validation, testing, seed, least=2), output_file(output), Path(root).expanduser()
    wanted = None if sequences is None else {_key(name) for name in names_of(sequences)}
    found, left_out = find_scans(folder, pattern)
    counts = Counter(scan.sequence or NOT_STATED for scan in found)
    show(f"sequences: {', '.join(f'{name} {count}' for name, count in counts.most_common()) or 'none'}")
    if wanted is not None:
        left_out["other sequences"] = [scan.path for scan in found if _key(scan.sequence) not in wanted]
        found = [scan for scan in found if _key(scan.sequence) in wanted]
    for reason, paths in left_out.items():
        if paths:
            show(f"left out: {reason}: {len(paths)}, such as {', '.join(paths[:3])}")
    if not found:
        raise InputError(
            f"--root={root}", "no scan", "names such as SUBJECT/SESSION/T1, --pattern, or other --sequences"
        )
    finder, names = person_finder(person) if person else None, Counter[str]()
    person_of, tested, entries = dict[str, str](), set[str](), list[dict[str, Any]]()
    for scan in found:
        names[scan.subject] += 1
        subject = scan.subject[-190:] + (f"_{names[scan.subject]}" if names[scan.subject] > 1 else "")
        person_of[subject] = finder(subject) if finder else scan.person
        if scan.is_test:
            tested.add(person_of[subject])
        stated = {"sequence": scan.sequence} if scan.sequence else {}
        entries.append({"subject": subject, "person": person_of[subject], **stated, "image": [scan.path]})
    show(f"scans: {len(entries)}, people: {describe_people(person_of)}")
    people = sorted({*person_of.values()} - tested)
    split_of = dict.fromkeys(tested, "testing") | (splits.draw(people) if people else {})
    content: dict[str, Any] = {"name": folder.resolve().name or "data", "modalities": [MODALITY]}
    content |= {"label_convention": None, "training": [], "validation": [], "testing": []}
    for entry in entries:
        content[split_of[entry["person"]]].append(entry)
    write_datalist(content, target)


def _key(sequence: str | None) -> str:
    return (modality_of(sequence or "") or sequence or NOT_STATED).lower()
