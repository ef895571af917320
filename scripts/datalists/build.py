"""Build a cohort's datalist: scan its folder, select and split visits, write the file."""

import filecmp
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from common.data import datalists
from common.data.preparation import describe, measure_cases, spread, union
from common.errors import InputError, show
from common.files import aside_of, check_writable_file, expand_home, reporting_path_errors
from scripts.datalists.scan import Scan, Visit
from scripts.datalists.slices import count_slices
from scripts.datalists.splits import Splitter, assign


def build(
    scan: Callable[[Path], Scan],
    root: str,
    output: str,
    split: Splitter,
    inputs: Mapping[str, Path] | None = None,
    *,
    min_slices: int = 0,
    only_first: bool = False,
    keep_unlabelled: bool = True,
    keep_missing: bool = False,
    workers: int = 0,
) -> None:
    """Write the datalist of a cohort.

    `scan` finds the visits in a folder, and `split` assigns people to splits. Visits with fewer than `min_slices`
    slices with signal in an image are left out; 0 reads no image. Outputs must not replace the files in `inputs`
    (option -> file).
    """
    target = expand_home(output, f"--output={output}")
    check_outputs([("output", target)], inputs or {})
    folder = expand_home(root, f"--root={root}")
    cohort = scan(folder)
    visits = _select(cohort, folder, min_slices, keep_missing, workers)
    if not visits:
        raise InputError(
            f"--root={root}: no complete subject of {cohort.title}; expected {', '.join(cohort.modalities)}"
        )
    if only_first:
        first = {visit.person: visit for visit in reversed(visits)}
        visits = _remaining("first visits", visits, [visit for visit in visits if first[visit.person] is visit])
    splits, folds = assign(visits, split, keep_unlabelled, cohort.convention is not None, cohort.held_out)
    content = _describe(cohort, visits, folds, folder)
    entries = {split: [_entry(visit) for visit in members] for split, members in splits.items()}
    content |= {split: entries[split] for split in datalists.SPLITS if split in entries}
    write(content, target)
    show(f"{output}: {sizes(content)}")


def write(content: Mapping[str, Any], target: Path) -> None:
    """Write a datalist; an earlier one with different content is renamed, and a message says so."""
    if not target.is_file():
        datalists.write(content, target)
        return
    with reporting_path_errors(f"--output={target}"):
        kept = aside_of(target)
        shutil.copy2(target, kept)
    try:
        datalists.write(content, target)
    except InputError:
        kept.unlink()
        raise
    if filecmp.cmp(target, kept, shallow=False):
        kept.unlink()
    else:
        show(f"{target}: replaced; the earlier one, with other content, is {kept}")


def check_outputs(outputs: Sequence[tuple[str, Path]], inputs: Mapping[str, Path]) -> None:
    """Check that output files (option, file) are writable and replace neither inputs nor each other."""
    known = {_resolved(option, path): option for option, path in inputs.items()}
    for option, path in outputs:
        check_writable_file(path, f"--{option}={path}")
        other = known.setdefault(_resolved(option, path), option)
        if other != option:
            raise InputError(f"--{option}={path}: expected another file than --{other}")


def _resolved(option: str, path: Path) -> Path:
    with reporting_path_errors(f"--{option}={path}"):
        return path.resolve()


def sizes(content: Mapping[str, Any]) -> str:
    """The number of subjects in each split, in words."""
    return ", ".join(f"{len(content[split])} {split}" for split in datalists.SPLITS if split in content)


def _remaining(text: str, before: Sequence[Visit], visits: list[Visit]) -> list[Visit]:
    """Print how many people and visits remain, if some were left out."""
    if len(visits) < len(before):
        people, all_people = (len({visit.person for visit in group}) for group in (visits, before))
        show(f"{text}: {people} of {all_people} people, {len(visits)} of {len(before)} visits")
    return visits


def _select(cohort: Scan, root: Path, min_slices: int, keep_missing: bool, workers: int) -> list[Visit]:
    """The visits with enough images and slices."""
    most = len(cohort.modalities) - 1 if keep_missing else 0  # modalities that a visit may lack
    for visit in cohort.visits:
        if 0 < len(visit.missing) <= most:
            show(f"kept: {visit.subject} lacks {_joined(visit.missing)}")
        elif visit.missing:
            show(f"left out: {visit.subject} lacks {_joined(visit.missing)}")
    wanted = _joined(cohort.modalities, "or" if keep_missing else "and")
    complete = [visit for visit in cohort.visits if len(visit.missing) <= most]
    visits = _remaining(f"with {wanted}", cohort.visits, complete)
    if min_slices == 0:
        return visits
    short = set()
    for visit, slices in zip(visits, count_slices(visits, root, workers), strict=True):
        counts = dict(zip(cohort.modalities, slices, strict=True))
        if unreadable := [modality for modality, count in counts.items() if count is None]:
            short.add(visit)
            show(f"left out: {visit.subject}: {_joined(unreadable)} cannot be read")
        elif few := [modality for modality, count in counts.items() if (count or 0) < min_slices]:
            short.add(visit)
            numbers = ", ".join(f"{counts[modality]} in {modality}" for modality in few)
            show(f"left out: {visit.subject} has {numbers}; expected {min_slices} slices with signal")
    long = [visit for visit in visits if visit not in short]
    return _remaining(f"with {min_slices} slices or more in each", visits, long)


def _joined(names: Sequence[str], word: str = "and") -> str:
    return f" {word} ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _describe(cohort: Scan, visits: Sequence[Visit], folds: Mapping[str, Any] | None, folder: Path) -> dict[str, Any]:
    """The entries of a datalist that precede its splits."""
    labelled = any(visit.label for visit in visits)
    described: dict[str, Any] = {
        "name": cohort.name,
        "modalities": list(cohort.modalities),
        "label_convention": cohort.convention if labelled else None,
    }
    if done := _preparation(cohort, visits, folder):
        described["preparation"] = done
    return described if folds is None else described | {"folds": folds}


def _preparation(cohort: Scan, visits: Sequence[Visit], folder: Path) -> str | None:
    """The preparation measured on a sample of images, with the owner's statement if it agrees; None if unreadable."""
    found = []
    for visit in spread(visits):
        files = [str(folder / file) if file else None for file in visit.image]
        with suppress(InputError):  # `check` reports unreadable files
            found.append(measure_cases([{"subject": visit.subject, "image": files}]))
    if not found:
        return None
    shown = describe(union(found))
    measured = f"measured on {len(found)} subjects: {shown}"
    if cohort.data.preparation is None or not shown.startswith(cohort.data.measures):
        return measured
    return f"{cohort.data.preparation}; {measured}"


def _entry(visit: Visit) -> dict[str, Any]:
    entry: dict[str, Any] = {"subject": visit.subject, "image": [path or None for path in visit.image]}
    return entry if visit.label is None else entry | {"label": visit.label}
