"""Build a cohort's datalist: scan its folder, select and split visits, write the file and the flow chart."""

import filecmp
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from common.data import datalists
from common.data.preparation import describe, measure_cases, spread, union
from common.errors import InputError, show
from common.files import aside_of, check_writable_file, expand_home, reporting_path_errors, write_json
from scripts import consort as chart
from scripts.datalists.scan import Scan, Visit
from scripts.datalists.slices import count_slices
from scripts.datalists.splits import Splitter, assign


def build(
    scan: Callable[[Path], Scan],
    root: str,
    output: str,
    split: Splitter,
    consort: str | None = None,
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
    outputs = [("output", target)]
    if consort is not None:
        flow = expand_home(consort, f"--consort={consort}")
        if flow.suffix != ".json":
            raise InputError(f"--consort={consort}: expected a file that ends in .json")
        outputs += [("consort", flow), ("consort", flow.with_suffix(".svg"))]
    check_outputs(outputs, inputs or {})
    folder = expand_home(root, f"--root={root}")
    cohort = scan(folder)
    visits, steps = _select(cohort, folder, min_slices, keep_missing, workers)
    if not visits:
        raise InputError(
            f"--root={root}: no complete subject of {cohort.title}; expected {', '.join(cohort.modalities)}"
        )
    if only_first:
        first = {visit.person: visit for visit in reversed(visits)}
        later = {visit.subject: "a later visit" for visit in visits if first[visit.person] is not visit}
        visits, firsts = chart.step("visits", "the first of these visits of each", visits, later)
        steps.append(firsts)
    splits, folds = assign(visits, split, keep_unlabelled, cohort.convention is not None, cohort.held_out)
    content = _describe(cohort, visits, folds, folder)
    entries = {split: [_entry(visit) for visit in members] for split, members in splits.items()}
    content |= {split: entries[split] for split in datalists.SPLITS if split in entries}
    write(content, target)
    show(f"{output}: {sizes(content)}")
    if consort is not None:
        counted = chart.count_splits(splits)
        write_json(flow, {"name": cohort.name, "layout": cohort.title, "steps": steps, "splits": counted})
        chart.draw(str(flow), str(flow.with_suffix(".svg")))


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


def _select(
    cohort: Scan, root: Path, min_slices: int, keep_missing: bool, workers: int
) -> tuple[list[Visit], list[dict[str, Any]]]:
    """The visits with enough images and slices, and the steps of the flow chart."""
    visits, start = chart.step("participants", "participants with a scan", cohort.visits, {})
    most = len(cohort.modalities) - 1 if keep_missing else 0  # modalities that a visit may lack
    for visit in visits:
        if 0 < len(visit.missing) <= most:
            show(f"kept: {visit.subject} lacks {_joined(visit.missing)}")
    lacking = {visit.subject: _joined(visit.missing) for visit in visits if len(visit.missing) > most}
    for subject, modalities in lacking.items():
        show(f"left out: {subject} lacks {modalities}")
    reasons = {subject: f"without {modalities}" for subject, modalities in lacking.items()}
    wanted = _joined(cohort.modalities, "or" if keep_missing else "and")
    visits, complete = chart.step("modalities", f"with {wanted}", visits, reasons)
    if min_slices == 0:
        return visits, [start, complete]
    short: dict[str, str] = {}
    for visit, slices in zip(visits, count_slices(visits, root, workers), strict=True):
        counts = dict(zip(cohort.modalities, slices, strict=True))
        if unreadable := [modality for modality, count in counts.items() if count is None]:
            short[visit.subject] = f"{_joined(unreadable)} cannot be read"
            show(f"left out: {visit.subject}: {short[visit.subject]}")
        elif few := [modality for modality, count in counts.items() if (count or 0) < min_slices]:
            short[visit.subject] = f"fewer than {min_slices} slices in {_joined(few)}"
            numbers = ", ".join(f"{counts[modality]} in {modality}" for modality in few)
            show(f"left out: {visit.subject} has {numbers}; expected {min_slices} slices with signal")
    visits, enough = chart.step("slices", f"with {min_slices} slices or more in each", visits, short)
    return visits, [start, complete, enough | {"min_slices": min_slices}]


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
