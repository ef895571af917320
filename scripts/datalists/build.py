"""Build a cohort's datalist: scan its folder, select and split visits, write the file."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.data import datalists
from common.data.layouts.people import person_of
from common.data.layouts.subjects import SubjectFiles
from common.data.scan_checks import read_scan
from common.data.volumes import canonical
from common.errors import InputError, show
from common.files import expand_home
from scripts.datalists.scan import Scan
from scripts.datalists.splits import RandomSplits
from scripts.pools import map_in_processes
from scripts.prepare.settings import RECORD


def build(
    scan: Callable[[Path], Scan],
    root: str,
    output: str,
    splits: RandomSplits,
    inputs: Mapping[str, Path] | None = None,
    *,
    min_slices: int = 0,
    only_first: bool = False,
    keep_missing: bool = False,
    workers: int = 0,
) -> None:
    """Scan a cohort's folder, assign its people to splits, and write the datalist.

    `scan` finds the visits in a folder, and `splits` assigns people to splits. If only some visits have a label, the
    rest go to the split unlabelled. `inputs` are files by option, which `output` must not replace. The remaining
    arguments select visits: at least `min_slices` slices with signal in each image (0 reads no image), only the first
    visit of each person, or also visits that lack some modalities.
    """
    target = expand_home(output, f"--output={output}")
    check_outputs([("output", target)], inputs or {})
    datalists.check_replaceable(target)
    folder = expand_home(root, f"--root={root}")
    cohort = scan(folder)
    visits = _select(cohort, folder, min_slices, keep_missing, workers)
    if not visits:
        raise InputError(f"--root={root}: no complete subject; expected {', '.join(cohort.modalities)}")
    if only_first:
        firsts = {visit.person: visit.name for visit in reversed(visits)}
        visits = _remaining("first visits", visits, [visit for visit in visits if firsts[visit.person] == visit.name])
    content: dict[str, Any] = {
        "name": cohort.name,
        "modalities": list(cohort.modalities),
        "label_convention": cohort.convention if any(visit.label for visit in visits) else None,
        **_space_of(folder, visits),
    }
    for name, members in _assign(cohort, visits, splits).items():
        content[name] = [_entry(visit, cohort.modalities) for visit in members]
    datalists.write(content, target)
    show(f"{output}: {sizes(content)}")


def _space_of(root: Path, visits: Sequence[SubjectFiles]) -> dict[str, str]:
    """Return the space that scripts.prepare recorded beside the visits; empty without records. Refuse two spaces."""
    folders = {(root / file).parent for visit in visits for file in visit.files.values()}
    if not (prepared := sorted(folder for folder in folders if (folder / RECORD).is_file())):
        return {}
    from scripts.prepare.subjects import read_record  # late import: slow

    records = {folder: read_record(folder) for folder in prepared}
    spaces = {record["settings"]["like"]: folder for folder, record in records.items() if "settings" in record}
    if len(spaces) > 1:
        stated = ", ".join(f"{folder} {space}" for space, folder in spaces.items())
        raise InputError(f"--root={root}", f"scans prepared for several spaces: {stated}", "the same --like for all")
    return {"space": next(iter(spaces))} if spaces else {}


def check_outputs(outputs: Sequence[tuple[str, Path]], inputs: Mapping[str, Path]) -> None:
    """Check that output files (option, file) replace neither inputs nor each other."""
    owners = {path.resolve(): option for option, path in inputs.items()}
    for option, path in outputs:
        owner = owners.setdefault(path.resolve(), option)
        if owner != option:
            raise InputError(f"--{option}={path}: the same file as --{owner}")


def sizes(content: Mapping[str, Any]) -> str:
    """Return the number of subjects in each split, as text."""
    return ", ".join(f"{len(content[split])} {split}" for split in datalists.SPLITS if split in content)


def _assign(cohort: Scan, visits: Sequence[SubjectFiles], splits: RandomSplits) -> dict[str, list[SubjectFiles]]:
    """Return visits by split. Held-out people go to testing, visits without a label to unlabelled.

    The split unlabelled exists only if the cohort has a label convention and some visits have no label.
    """
    unlabelled = {visit.name for visit in visits if cohort.convention is not None and visit.label is None}
    people = cohort.people([visit for visit in visits if visit.name not in unlabelled])
    split_of = splits.assign(people) if people else {}
    split_of |= dict.fromkeys(cohort.held_out, "testing")
    parts: dict[str, list[SubjectFiles]] = {name: [] for name in datalists.SPLITS if unlabelled or name != "unlabelled"}
    for visit in visits:
        parts["unlabelled" if visit.name in unlabelled else split_of[visit.person]].append(visit)
    if unlabelled:
        show(f"visits without a label map, in the split unlabelled: {len(unlabelled)}, such as {min(unlabelled)}")
    return parts


def _remaining(text: str, before: Sequence[SubjectFiles], visits: list[SubjectFiles]) -> list[SubjectFiles]:
    """Return `visits` unchanged; if they are fewer than `before`, print how many people and visits remain."""
    if len(visits) < len(before):
        people, all_people = (len({visit.person for visit in group}) for group in (visits, before))
        show(f"{text}: {people} of {all_people} people, {len(visits)} of {len(before)} visits")
    return visits


def _select(cohort: Scan, root: Path, min_slices: int, keep_missing: bool, workers: int) -> list[SubjectFiles]:
    """Return the visits with enough images and slices; print a line for each visit without."""
    most = len(cohort.modalities) - 1 if keep_missing else 0  # modalities that a visit may lack
    lacking = {visit.name: visit.lacks(cohort.modalities) for visit in cohort.visits}
    for name, missing in lacking.items():
        if missing:
            show(f"{'kept' if len(missing) <= most else 'left out'}: {name} lacks {', '.join(missing)}")
    wanted = ("some of " if keep_missing else "") + ", ".join(cohort.modalities)
    complete = [visit for visit in cohort.visits if len(lacking[visit.name]) <= most]
    visits = _remaining(f"with {wanted}", cohort.visits, complete)
    if min_slices == 0:
        return visits
    selected = []
    paths = [f"{root}/{visit.files[modality]}" for visit in visits for modality in cohort.modalities]
    numbers = iter(map_in_processes(slices_with_signal, paths, workers, "image", "slices with signal"))
    for visit in visits:
        counts = {modality: next(numbers) for modality in cohort.modalities}
        unreadable = [modality for modality, count in counts.items() if count is None]
        few = [f"{count} in {modality}" for modality, count in counts.items() if count is None or count < min_slices]
        if unreadable:
            show(f"left out: {visit.name}: {', '.join(unreadable)} cannot be read")
        elif few:
            problem = f"too few slices with signal ({', '.join(few)})"
            show(f"left out: {visit.name}: {problem}; expected at least {min_slices}")
        else:
            selected.append(visit)
    return _remaining(f"with {min_slices} slices or more in each", visits, selected)


def _entry(visit: SubjectFiles, modalities: Sequence[str]) -> dict[str, Any]:
    person = {} if visit.person == person_of(visit.name) else {"person": visit.person}
    label = {} if visit.label is None else {"label": visit.label}
    return {"subject": visit.name, **person, "image": [visit.files.get(name) for name in modalities], **label}


def slices_with_signal(path: str | Path) -> int | None:
    """Return the number of axial slices with a voxel above zero; None if the file is not a readable volume.

    Axial slices are perpendicular to the voxel axis nearest to the world's z axis.

    Example:
        >>> slices_with_signal("1000012_20252_2_0/T1/T1_brain_to_MNI.nii.gz")  # doctest: +SKIP
        146
    """
    try:
        scan, voxels = read_scan(path)
    except InputError:
        return None
    upright, _ = canonical(voxels, scan.affine)
    return int((upright > 0).any(axis=(0, 1)).sum())
