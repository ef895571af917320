"""Find and split the labelled subjects of a folder; imports nothing slow."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from common.data.layouts.names import Naming, naming
from common.data.layouts.subjects import SubjectFiles
from common.errors import InputError
from common.files import expand_home
from scripts.datalists.regions import read_regions
from scripts.datalists.scan import Scan, scan_any
from scripts.datalists.splits import RandomSplits, person_finder

SHARE = 0.15  # fraction of the people for validation, and for testing


class Data(NamedTuple):
    """The usable content of a folder."""

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
        return sum(str(visit.person) in self.people[split] for visit in self.cases)

    def case(self, subject: SubjectFiles) -> dict[str, Any]:
        """Return a subject's name and file paths in the form that the scan checks read."""
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
    cases = [visit for visit in scan.visits if visit.label and not visit.lacks(scan.modalities)]
    people = sorted({str(visit.person) for visit in cases} - scan.held_out)
    try:
        drawn = RandomSplits(SHARE, SHARE).draw(people)
    except InputError as error:
        problem = f"people with {', '.join(scan.modalities)} and a label map: {len(people)}"
        raise InputError(f"--root={root}", problem, "4 or more") from error
    return Data(root, names, scan, cases, drawn | {"testing": [*drawn["testing"], *scan.held_out]})


def subjects_in_words(data: Data) -> str:
    """Describe the numbers of subjects, people in each split, and left-out subjects."""
    splits = ", ".join(f"{len(people)} {split}" for split, people in data.people.items())
    left = len(data.scan.visits) - len(data.cases)
    unused = f"; {left} left out, without label map or some modality" if left else ""
    return f"{len(data.cases)} with {', '.join(data.modalities)} and a label map; people: {splits}{unused}"
