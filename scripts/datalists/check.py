"""Check a cohort before training on it: `python -m scripts.datalists check`.

Worker processes examine each subject and return a record; the records are then compared.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common.data import datalists
from common.data.datalists import SPLITS, person_in
from common.data.names import count_missing, files_in
from common.data.preparation import PREPARATION_CHECKS, describe, differences, measure, union, without_background
from common.data.volumes import Problem, check_grid, check_image, labels_in, orientation_problem, read_scan
from common.errors import InputError, choice, show
from common.files import write_csv
from common.values import names_of
from scripts.datalists.files import describe_people, people_in, write
from scripts.pools import map_in_processes
from scripts.prepare.volumes import canonical

# Errors break training or scores; warnings deserve a look, as an empty mask may be a patient without lesions
ERRORS = "missing, unreadable, dimensions, type, shape, affine, not_finite, constant, outlier, no_signal, label_values"
ERRORS += ", label_as_image, copy, no_label, leakage, duplicate"
SEVERITY = dict.fromkeys(ERRORS.split(", "), "error")
SEVERITY |= dict.fromkeys(("empty_mask", "orientation", *PREPARATION_CHECKS), "warning")
COLUMNS = ("subject", "split", "file", "severity", "check", "value", "expected")
HELD_OUT_FIRST = ("testing", "validation", "training", "unlabelled")

Cases = Sequence[Mapping[str, Any]]  # entries of a datalist with their splits
Finding = tuple[int, Problem]  # index of the case


class Record(NamedTuple):
    """Problems of a case, and measurements to compare with the rest of the cohort."""

    problems: list[Problem]
    digests: Mapping[bytes, str] = {}  # digest of voxels -> file; none for most faulty files
    preparation: dict[str, list[Any]] | None = None  # `common.data.preparation.measure`; None if an image is faulty


def check(
    datalist: str,
    root: str,
    output: str | None = None,
    fixed: str | None = None,
    accept: str | Sequence[str] = (),
    workers: int = 0,
) -> None:
    """Open every file of a datalist and report problems that would stop training, spoil it or inflate the scores.

    Errors: a file that is missing, damaged, not 3D or not on its subject's grid; NaN, infinite or constant voxels; a
    label that is missing, has unknown values or is listed as an image; two modalities with the same voxels; a subject,
    image or label that occurs twice, in one split (duplicate) or in two (leakage); visits of one person in two splits
    (leakage).

    Warnings: subjects without a lesion, unregistered modalities, and images that differ from most of the cohort in
    spacing, skull, extent or air.
    Errors and warnings give exit status 1.

    Args:
        datalist: JSON file.
        root: folder that the datalist's paths are relative to.
        output: folder for findings.csv.
        fixed: file for a datalist without the subjects that have errors; accepted errors do not count.
        accept: checks to report without changing the exit status, such as empty_mask,orientation.
        workers: processes; 0 for one per core.
    """
    accepted = {choice("accept", name, [*SEVERITY]) for name in names_of(accept) if name}
    source, folder = Path(datalist).expanduser(), Path(root).expanduser()
    content = datalists.read(source, may_repeat=True)  # repeats are reported below
    cases = [{**entry, "split": split} for split in SPLITS for entry in content.get(split, [])]
    if not any((folder / file).exists() for case in cases for file in files_in(case)):
        raise InputError(f"--root={root}", f"none of the files in {datalist} is in this folder")
    work = partial(examine, root=str(folder), convention=content["label_convention"])
    records = map_in_processes(work, cases, workers, "subject")
    findings = [[*record.problems] for record in records]  # of each case
    for index, problem in compare(cases, records):
        findings[index].append(problem)
    facts = {"subjects": str(len(cases))}
    for severity in ("error", "warning"):
        counts = [sum(SEVERITY[problem.check] == severity for problem in problems) for problems in findings]
        facts[f"{severity}s"] = f"{sum(counts)} in {np.count_nonzero(counts)} subjects" if any(counts) else "none"
    measured = [record.preparation for record in records if record.preparation is not None]
    facts["scans"] = describe(union(measured)) if measured else "no readable image"
    if lacking := count_missing(cases, content["modalities"]):
        facts["missing"] = ", ".join(f"{names} in {count} subjects" for names, count in lacking.items())
    facts["people"] = describe_people(people_in(content))
    show(f"{source.name}: " + "; ".join(f"{fact}: {value}" for fact, value in facts.items()))
    rows = [COLUMNS]
    sound: dict[str, list[Any]] = {split: [] for split in SPLITS if split in content}
    for case, problems in zip(cases, findings, strict=True):
        subject, split = case["subject"], case["split"]
        for problem in problems:
            severity, name = SEVERITY[problem.check], problem.check
            show(f"{severity}: {name}: {split} {subject}: {problem}")
            rows.append((subject, split, problem.file, severity, name, problem.problem, problem.expected))
        if not any(SEVERITY[problem.check] == "error" and problem.check not in accepted for problem in problems):
            sound[split].append({key: value for key, value in case.items() if key != "split"})
    if len(rows) == 1:
        show("no problems found")
    if output is not None:
        table = Path(output).expanduser() / "findings.csv"
        write_csv(table, rows)
        show(table)
    if fixed is not None:
        if not any(sound.values()) or (content.get("training") and not sound["training"]):
            raise InputError(f"--fixed={fixed}", "every subject, or every subject for training, has an error")
        write({**content, **sound}, fixed, source)
    if {name for *_, name, _, _ in rows[1:]} - accepted:
        raise SystemExit(1)


def examine(case: Mapping[str, Any], root: str, convention: str | None) -> Record:
    """Read all files of a case as `LoadScand` does, and return the case's record.

    `convention` is a label convention (`common.data.regions`); None accepts all whole numbers as labels.
    """
    problems: list[Problem] = []
    digests: dict[bytes, str] = {}
    volumes: list[np.ndarray] = []
    reference: Any = None  # shape and affine of the first readable file, and its name
    for file in dict.fromkeys(files_in(case)):
        is_label = file == case.get("label")
        try:
            scan, volume = read_scan(Path(root, file), np.float32)
            reference = reference or ((volume.shape, scan.affine), Path(file).name)
            problems += filter(None, [orientation_problem(file, scan)])
            check_grid(file, (volume.shape, scan.affine), *reference)
            if is_label:
                is_empty = labels_in(file, volume, convention) == {0}
            else:
                volume = without_background(volume)
                check_image(file, volume)
        except Problem as problem:  # with the path below the root
            problems.append(Problem(problem.check, file, problem.problem, problem.expected))
            continue
        upright, affine = canonical(volume, reference[0][1])
        if is_label and is_empty:  # empty masks may be equal
            problems.append(
                Problem("empty_mask", file, "no voxel is labelled", "a lesion, unless the patient has none")
            )
            continue
        digest = hashlib.blake2b(np.ascontiguousarray(upright.T).data, digest_size=16).digest()
        original = digests.setdefault(digest, file)
        if original != file:
            name, copy, other = ("label_as_image", original, file) if is_label else ("copy", file, original)
            problems.append(Problem(name, copy, f"a copy of {Path(other).name}", "a different image"))
        if not is_label:
            volumes.append(upright)
    faulty = {problem.file for problem in problems if SEVERITY[problem.check] == "error"}
    is_sound = bool(volumes) and faulty.isdisjoint(case["image"])
    if is_sound and not any(volume.max() > 0 for volume in volumes):
        problems.append(Problem("no_signal", files_in(case)[0], "no voxel above zero", "a brain, as voxels above zero"))
    if convention is not None and "label" not in case and case.get("split") != "unlabelled":
        problems.append(Problem("no_label", files_in(case)[0], "no label", f"a label map that follows {convention}"))
    return Record(problems, digests, measure(np.stack(volumes), affine) if is_sound else None)


def compare(cases: Cases, records: Sequence[Record]) -> Iterator[Finding]:
    """Yield outliers and repeated cases; `records` follow the order of `cases`.

    Each scan's preparation is compared with the quartiles of the cohort.
    """
    measured = [record.preparation for record in records if record.preparation is not None]
    figures = {name: [case[name][0] for case in measured] for name in (measured[0] if measured else ())}
    ranges = {name: np.quantile(values, (0.25, 0.75), axis=0).tolist() for name, values in figures.items()}
    for index, (case, record) in enumerate(zip(cases, records, strict=True)):
        if record.preparation is not None:
            for problem in differences(record.preparation, ranges, files_in(case)[0]).values():
                yield index, problem
    yield from _repeated(cases, records)


def _repeated(cases: Cases, records: Sequence[Record]) -> Iterator[Finding]:
    """Yield a problem for each repeated subject, image or person; its value names the case to keep.

    Cases without errors are preferred, then cases in the most strictly held-out split, then the first in the datalist.
    Visits of a person may share a split or be unlabelled.
    """

    def rank(index: int) -> tuple[bool, int, int]:
        broken = any(SEVERITY[problem.check] == "error" for problem in records[index].problems)
        return broken, HELD_OUT_FIRST.index(cases[index]["split"]), index

    originals: dict[tuple[str, Any], int] = {}  # kind and key -> the case to keep
    pairs: dict[tuple[int, int], tuple[str, str]] = {}  # case and original -> the strongest kind, and a file
    for index in sorted(range(len(cases)), key=rank):
        case, file = cases[index], files_in(cases[index])[0]
        keys = [("subject", case["subject"], file)]
        keys += [("voxels", digest, image) for digest, image in records[index].digests.items()]
        keys += [("person", person_in(case), file)] if case["split"] != "unlabelled" else []
        for kind, key, repeated in keys:
            original = originals.setdefault((kind, key), index)
            if original != index and (kind != "person" or cases[original]["split"] != case["split"]):
                pairs.setdefault((index, original), (kind, repeated))
    for (index, original), (kind, file) in sorted(pairs.items()):
        subject, split = cases[original]["subject"], cases[original]["split"]
        check = "duplicate" if cases[index]["split"] == split else "leakage"
        expected = "each subject and image once, and each person in one split"
        yield index, Problem(check, file, f"the same {kind} as {subject} in {split}", expected)
