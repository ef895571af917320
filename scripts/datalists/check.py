"""Check a cohort before training on it: `python -m scripts.datalists check`.

Worker processes examine each subject (`examine`) and return a record; the records are then compared.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from common.data import datalists
from common.data.datalists import SPLITS, person_in
from common.data.names import count_missing, files_in
from common.data.preparation import describe, differences, union
from common.data.regions import regions_of
from common.data.volumes import Problem
from common.errors import InputError, choice, show
from common.files import write_csv
from common.values import names_of
from scripts.datalists.examine import CHECKS, Record, examine
from scripts.datalists.files import output_file, write
from scripts.datalists.people import people_in
from scripts.pools import map_in_processes

COLUMNS = ("subject", "split", "file", "severity", "check", "value", "expected")
KINDS = ("subject", "voxels", "person")  # of repeated cases, the strongest first
HELD_OUT_FIRST = ("testing", "validation", "training", "unlabelled")

Cases = Sequence[Mapping[str, Any]]
Finding = tuple[int, Problem]  # index of the case, -1 for the whole cohort


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

    Warnings: subjects without a lesion, regions absent from all label maps, unregistered modalities, and images that
    differ from most of the cohort in spacing, skull, extent or air.
    Errors and warnings give exit status 1.

    Args:
        datalist: JSON file.
        root: folder that the datalist's paths are relative to.
        output: folder for findings.csv.
        fixed: file for a datalist without the subjects that have errors; accepted errors do not count.
        accept: checks to report without changing the exit status, such as empty_mask,orientation.
        workers: processes; 0 for one per core.
    """
    accepted = {choice("accept", name, {check: check for check in CHECKS}) for name in names_of(accept) if name}
    source, folder = Path(datalist).expanduser(), Path(root).expanduser()
    repaired = None if fixed is None else output_file(fixed, source)
    content = datalists.read(source, may_repeat=True)  # repeats are reported below
    cases = [{**entry, "split": split} for split in SPLITS for entry in content.get(split, [])]
    if not any((folder / file).exists() for case in cases for file in files_in(case)):
        raise InputError(f"--root={root}", f"none of the files in {datalist} is in this folder")
    work = partial(examine, root=str(folder), convention=content["label_convention"])
    records = map_in_processes(work, cases, workers, "subject")
    findings = [(index, problem) for index, record in enumerate(records) for problem in record.problems]
    findings += compare(cases, records, content["label_convention"])
    files = [[*case["image"], case.get("label")] for case in cases] + [[""]]  # the last: of the whole cohort
    findings.sort(key=lambda item: (item[0], files[item[0]].index(item[1].file)))
    owners = [(case["subject"], case["split"]) for case in cases] + [("", "")]
    rows = [
        (*owners[index], problem.file, CHECKS[problem.check], problem.check, problem.problem, problem.expected)
        for index, problem in findings
    ]
    facts = {"subjects": str(len(cases))}
    for severity in ("error", "warning"):
        affected = [index for index, problem in findings if CHECKS[problem.check] == severity]
        facts[f"{severity}s"] = f"{len(affected)} in {len({*affected} - {-1})} subjects" if affected else "none"
    measured = [record.preparation for record in records if record.preparation is not None]
    facts["scans"] = describe(union(measured)) if measured else "no readable image"
    if lacking := count_missing(cases, content["modalities"]):
        facts["missing"] = ", ".join(f"{names} in {count} subjects" for names, count in lacking.items())
    facts["people"] = people_in(content)
    show(f"{source.name}: " + "; ".join(f"{fact}: {value}" for fact, value in facts.items()))
    for subject, split, file, severity, name, value, expected in rows:
        place = f"{split} {subject}: {file}" if subject else "the cohort"
        show(f"{severity}: {name}: {place}: {value}; expected {expected}")
    if not rows:
        show("no problems found")
    if output is not None:
        table = Path(output).expanduser() / "findings.csv"
        table.parent.mkdir(parents=True, exist_ok=True)
        write_csv(table, [COLUMNS, *rows])
        show(table)
    refused = [(index, problem.check) for index, problem in findings if problem.check not in accepted]
    if repaired is not None:
        errors = {index for index, check in refused if CHECKS[check] == "error"}
        remaining: dict[str, list[Any]] = {split: [] for split in SPLITS if split in content}
        for index, case in enumerate(cases):
            if index not in errors:
                remaining[case["split"]].append({key: value for key, value in case.items() if key != "split"})
        if not any(remaining.values()) or (content.get("training") and not remaining["training"]):
            raise InputError(f"--fixed={fixed}", "every subject, or every subject for training, has an error")
        write({**content, **remaining}, repaired)
        show(f"{repaired}: {len(cases) - len(errors)} of {len(cases)} subjects")
    if refused:
        raise SystemExit(1)


def compare(cases: Cases, records: Sequence[Record], convention: str | None = None) -> Iterator[Finding]:
    """Yield outliers, absent regions and repeated cases; `records` follow the order of `cases`.

    Each scan's preparation is compared with the quartiles of the cohort.
    """
    measured = [record.preparation for record in records if record.preparation is not None]
    figures = {name: [case[name][0] for case in measured] for name in (measured[0] if measured else ())}
    ranges = {name: np.quantile(values, (0.25, 0.75), axis=0).tolist() for name, values in figures.items()}
    for index, (case, record) in enumerate(zip(cases, records, strict=True)):
        if record.preparation is not None:
            for problem in differences(record.preparation, ranges, files_in(case)[0]).values():
                yield index, problem
    label_sets = [record.labels for record in records if record.labels is not None]
    for name, values in regions_of(convention).items() if convention and label_sets else ():
        if not any(values & labels for labels in label_sets):
            value = f"no voxel of {name} ({'+'.join(map(str, sorted(values)))}) in {len(label_sets)} label maps"
            yield -1, Problem("absent_region", "", value, "each region in some label map")
    yield from _repeated(cases, records)


def _repeated(cases: Cases, records: Sequence[Record]) -> Iterator[Finding]:
    """Yield a problem for each repeated subject, image or person; its value names the case to keep.

    Cases without errors are preferred, then cases in the most strictly held-out split, then the first in the datalist.
    Visits of a person may share a split or be unlabelled.
    """
    groups: dict[tuple[str, Any], dict[int, str]] = defaultdict(dict)  # kind and key -> case index -> file
    for index, (case, record) in enumerate(zip(cases, records, strict=True)):
        groups["subject", case["subject"]][index] = files_in(case)[0]
        if case["split"] != "unlabelled":
            groups["person", person_in(case)][index] = files_in(case)[0]
        for file, digest in record.digests.items():
            groups["voxels", digest].setdefault(index, file)

    def rank(index: int) -> tuple[bool, int, int]:
        broken = any(CHECKS[problem.check] == "error" for problem in records[index].problems)
        return broken, HELD_OUT_FIRST.index(cases[index]["split"]), index

    pairs: dict[tuple[int, int], tuple[str, str]] = {}  # only the strongest kind is reported
    for (kind, _), members in sorted(groups.items(), key=lambda item: KINDS.index(item[0][0])):
        original, *copies = sorted(members, key=rank)
        for index in copies:
            if kind != "person" or cases[index]["split"] != cases[original]["split"]:
                pairs.setdefault((index, original), (kind, members[index]))
    for (index, original), (kind, file) in sorted(pairs.items()):
        subject, split = cases[original]["subject"], cases[original]["split"]
        check = "duplicate" if cases[index]["split"] == split else "leakage"
        expected = "each subject and image once, and each person in one split"
        yield index, Problem(check, file, f"the same {kind} as {subject} in {split}", expected)
