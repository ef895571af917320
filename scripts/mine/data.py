"""Find and split the labelled subjects of a folder; imports nothing slow."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from common.data.layouts.names import Naming, naming
from common.data.layouts.subjects import SubjectFiles
from common.data.preparation import spread
from common.data.scan_checks import CHECKS, OFF_GRID, broken_file, files_in, read_headers
from common.errors import InputError, show
from common.files import expand_home
from scripts.datalists.regions import read_regions
from scripts.datalists.scan import Scan, scan_any
from scripts.datalists.splits import RandomSplits, person_finder

SHARE = 0.15  # fraction of the people for validation, and for testing
LABELS = 24  # most label maps that tell structures from lesions


class Data(NamedTuple):
    """The labelled subjects found in a folder, and their people by split."""

    root: Path
    naming: Naming
    scan: Scan
    cases: list[SubjectFiles]  # with all modalities and a label map
    people: Mapping[str, Sequence[str]]  # by split

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities in channel order."""
        return self.scan.modalities

    def visits(self, split: str) -> int:
        """Return the number of visits in a split; a person may have several."""
        return sum(visit.person in self.people[split] for visit in self.cases)

    def case(self, subject: SubjectFiles) -> dict[str, Any]:
        """Return a subject's name and full file paths, in the form of a datalist's entry."""
        files = [str(self.root / subject.files[name]) for name in self.modalities]
        return {"subject": subject.name, "image": files, "label": str(self.root / str(subject.label))}


def find(root: Path, options: Mapping[str, Any]) -> Data:
    """Find and split the labelled subjects of a folder, as `scripts.datalists generic` does."""
    names = naming(options["modalities"], options["label"])
    person, regions = options["person"], options["regions"]
    if regions is not None:
        regions = read_regions(expand_home(regions, f"--regions={regions}"), f"--regions={regions}")
    finder = None if person is None else person_finder(person)
    scan = scan_any(root, naming=names, regions=regions, person=finder, is_asking=False)
    if scan.convention is None:
        expected = "files whose names end with seg, label, mask or lesion, or --label=WORDS"
        raise InputError(f"--root={root}", "no label map to learn from", expected)
    complete = scan.labelled()
    data = Data(root, names, scan, complete, {})
    faults = unreadable([data.case(visit) for visit in complete])
    show(*(f"left out  {subject}: {fault}" for subject, fault in sorted(faults.items())))
    cases = [visit for visit in complete if visit.name not in faults]
    people = scan.people(cases)
    try:
        drawn = RandomSplits(SHARE, SHARE).draw(people)
    except InputError as error:
        problem = f"people with readable {', '.join(scan.modalities)} and label map: {len(people)}"
        raise InputError(f"--root={root}", problem, "4 or more") from error
    return data._replace(cases=cases, people=drawn | {"testing": [*drawn["testing"], *scan.held_out]})


def unreadable(cases: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return, by subject, why a file cannot be read; headers of all subjects are read, but voxels of only some."""
    faults: dict[str, str] = {}
    for case in cases:
        for problem in read_headers(case, "")[0]:
            if CHECKS[problem.check] == "error" and problem.check not in OFF_GRID:
                faults.setdefault(case["subject"], str(problem))
    while True:
        sound = [case for case in cases if case["subject"] not in faults]
        files = {case["subject"]: files_in(case)[-1:] for case in spread(sound, LABELS)}  # the label map
        files |= {case["subject"]: files_in(case) for case in spread(sound)}
        found = {subject: ": ".join(broken) for subject in files if (broken := broken_file(files[subject]))}
        if not found:
            return faults
        faults |= found


def subjects_in_words(data: Data) -> str:
    """Describe the numbers of subjects, people in each split, and left-out subjects."""
    splits = ", ".join(f"{len(people)} {split}" for split, people in data.people.items())
    left = len(data.scan.visits) - len(data.cases)
    unused = f"; {left} left out, without label map or some modality, or damaged" if left else ""
    return f"{len(data.cases)} with {', '.join(data.modalities)} and a label map; people: {splits}{unused}"
