"""Check a cohort before training on it: `python -m scripts.datalists check`.

Worker processes examine each subject and return a record; the records are then compared.
"""

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common.data import datalists
from common.data.datalists import SPLITS, person_in
from common.data.names import count_missing, files_in
from common.data.preparation import PREPARATION_CHECKS, describe, differences, fill_volume, measure, union
from common.data.volumes import Problem, labels_in, orientation_problem, read_scan
from common.errors import InputError, choice, show
from common.files import write_csv
from common.values import names_of
from scripts.datalists.files import describe_people, write
from scripts.pools import map_in_processes
from scripts.prepare.volumes import canonical

# Errors break training or scores; warnings deserve a look, as an empty mask may be a patient without lesions
ERRORS = "missing, unreadable, dimensions, type, shape, affine, not_finite, constant, outlier, no_signal, label_values"
ERRORS += ", label_as_image, copy, no_label, leakage, duplicate"
SEVERITY = dict.fromkeys(ERRORS.split(", "), "error")
SEVERITY |= dict.fromkeys(("empty_mask", "orientation", *PREPARATION_CHECKS), "warning")
HELD_OUT_FIRST = ("testing", "validation", "training", "unlabelled")


class Record(NamedTuple):
    """A case, its problems, and measurements to compare with the rest of the cohort."""

    case: Mapping[str, Any]  # entry of a datalist, and its split
    problems: list[Problem]
    digests: Mapping[bytes, str] = {}  # digest of voxels -> file; none for most faulty files
    preparation: dict[str, list[Any]] | None = None  # `common.data.preparation.measure`; None if an image is faulty

    @property
    def errors(self) -> set[str]:
        """The failed checks whose severity is error."""
        return {problem.check for problem in self.problems if SEVERITY[problem.check] == "error"}


def check(
    datalist: str,
    root: str,
    output: str | None = None,
    fixed: str | None = None,
    accept: str | Sequence[str] = (),
    workers: int = 0,
) -> None:
    """Open every file of a datalist and report problems that would stop training, spoil it or inflate the scores.

    Errors and warnings give exit status 1. Errors are damaged, unfit or repeated files, and people in two splits;
    warnings, such as a mask without lesion, deserve a look. See docs/reference/data.md.

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
    add_outliers(records)
    add_repeats(records)
    findings = [(record.case, SEVERITY[problem.check], problem) for record in records for problem in record.problems]
    facts = [f"{source.name}: subjects: {len(cases)}"]
    for severity in ("error", "warning"):
        subjects = [(case["subject"], case["split"]) for case, stated, _ in findings if stated == severity]
        facts.append(f"{severity}s: " + (f"{len(subjects)} in {len({*subjects})} subjects" if subjects else "none"))
    measured = [record.preparation for record in records if record.preparation is not None]
    facts.append(f"scans: {describe(union(measured)) if measured else 'no readable image'}")
    if lacking := count_missing(cases, content["modalities"]):
        facts.append("missing: " + ", ".join(f"{names} in {count} subjects" for names, count in lacking.items()))
    facts.append(f"people: {describe_people({case['subject']: person_in(case) for case in cases})}")
    show("; ".join(facts))
    rows = [("subject", "split", "file", "severity", "check", "value", "expected")]
    for case, severity, problem in findings:
        subject, split, name = case["subject"], case["split"], problem.check
        show(f"{severity}: {name}: {split} {subject}: {problem}")
        rows.append((subject, split, problem.file, severity, name, problem.problem, problem.expected))
    if not findings:
        show("no problems found")
    if output is not None:
        table = Path(output).expanduser() / "findings.csv"
        write_csv(table, rows)
        show(table)
    if fixed is not None:
        sound: dict[str, list[Any]] = {split: [] for split in SPLITS if split in content}
        for record in records:
            if record.errors <= accepted:
                sound[record.case["split"]].append({key: record.case[key] for key in record.case if key != "split"})
        write(content | sound, fixed, source)
    if {problem.check for *_, problem in findings} - accepted:
        raise SystemExit(1)


def examine(case: Mapping[str, Any], root: str, convention: str | None) -> Record:
    """Read all files of a case as `LoadScand` does, and return the case's record.

    `convention` is a label convention (`common.data.regions`); None accepts all whole numbers as labels.
    """
    problems: list[Problem] = []
    digests: dict[bytes, str] = {}
    volumes: list[np.ndarray] = []
    reference: Any = None  # shape and affine of the first readable file, and its name
    for file in files_in(case):
        is_label = file == case.get("label")
        try:
            scan, voxels = read_scan(Path(root, file))
            reference = reference or ((voxels.shape, scan.affine), Path(file).name)
            problems += filter(None, [orientation_problem(file, scan)])
            volume = np.empty(voxels.shape, np.float32)
            fill_volume(volume, file, scan, voxels, reference[0], reference[1], is_image=not is_label)
            if is_label and labels_in(file, volume, convention) == {0}:
                raise Problem("empty_mask", file, "no voxel is labelled", "a lesion, unless the patient has none")
        except Problem as problem:  # with the path below the root
            problems.append(Problem(problem.check, file, problem.problem, problem.expected))
            continue
        upright, affine = canonical(volume, reference[0][1])
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
    return Record(case, problems, digests, measure(np.stack(volumes), affine) if is_sound else None)


def add_outliers(records: Sequence[Record]) -> None:
    """Add the problems of cases whose preparation is outside the quartiles of the cohort."""
    measured = [record.preparation for record in records if record.preparation is not None]
    figures = {name: [case[name][0] for case in measured] for name in (measured[0] if measured else ())}
    ranges = {name: np.quantile(values, (0.25, 0.75), axis=0).tolist() for name, values in figures.items()}
    for record in records:
        if record.preparation is not None:
            record.problems.extend(differences(record.preparation, ranges, files_in(record.case)[0]).values())


def add_repeats(records: Sequence[Record]) -> None:
    """Add a problem to each case that repeats a subject, image or person; its value names the case to keep.

    Cases without errors are preferred, then cases in the most strictly held-out split, then the first in the datalist.
    Visits of a person may share a split or be unlabelled.
    """
    ranks = [(bool(record.errors), HELD_OUT_FIRST.index(record.case["split"])) for record in records]
    originals: dict[tuple[str, Any], int] = {}  # kind and key -> index of the case to keep
    for index in sorted(range(len(records)), key=ranks.__getitem__):
        case, first = records[index].case, files_in(records[index].case)[0]
        keys = [("subject", case["subject"], first)]
        keys += [("voxels", digest, file) for digest, file in records[index].digests.items()]
        keys += [("person", person_in(case), first)] if case["split"] != "unlabelled" else []
        repeated: dict[int, tuple[str, str]] = {}  # index of the case to keep -> the strongest kind, and a file
        for kind, key, file in keys:
            original = originals.setdefault((kind, key), index)
            if original != index and (kind != "person" or records[original].case["split"] != case["split"]):
                repeated.setdefault(original, (kind, file))
        for original, (kind, file) in sorted(repeated.items()):
            subject, split = records[original].case["subject"], records[original].case["split"]
            check = "duplicate" if case["split"] == split else "leakage"
            expected = "each subject and image once, and each person in one split"
            records[index].problems.append(Problem(check, file, f"the same {kind} as {subject} in {split}", expected))
