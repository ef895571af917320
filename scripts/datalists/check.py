"""Check a cohort before training on it: `python -m scripts.datalists check`.

Worker processes examine each subject (`examine`) and return a record; `cohort_checks` compares the records.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from common.data import datalists
from common.data.modalities import count_missing, first_image
from common.data.preparation import describe, union
from common.data.scan_checks import Problem, files_in
from common.data.volumes import is_made_up
from common.errors import InputError, aligned, check_number, choice, show
from common.files import atomic_write, expand_home, write_csv
from common.values import names_of
from scripts.datalists.build import check_outputs
from scripts.datalists.cohort_checks import compare
from scripts.datalists.examine import CHECKS, Record, examine
from scripts.datalists.splits import people_in
from scripts.pools import map_in_processes

PAGES = ("findings.csv", "findings.html")
COLUMNS = ("subject", "split", "file", "severity", "check", "value", "expected")
PICTURES = 200  # largest number of subjects with findings in findings.html
SAMPLE = 24  # largest number of subjects without findings in findings.html


@dataclass(frozen=True)
class Result:
    """The result of a datalist check: the findings (problems by case index), and facts about the whole cohort."""

    name: str  # of the datalist
    cases: Sequence[Mapping[str, Any]]  # of all splits, each with its "split"
    findings: Sequence[tuple[int, Problem]]  # case index (-1: the whole cohort) and problem
    cohort: Mapping[str, str]  # facts about the cohort
    modalities: Sequence[str]
    convention: str | None  # label convention

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The lines of findings.csv; subject, split and file are empty for findings on the whole cohort."""
        cases = [*self.cases, {"subject": "", "split": ""}]  # index -1: the whole cohort
        return [
            (cases[index]["subject"], cases[index]["split"], it.file, CHECKS[it.check], it.check, it.value, it.expected)
            for index, it in self.findings
        ]

    @property
    def facts(self) -> dict[str, str]:
        """The summary: numbers of subjects, errors and warnings, and facts about the cohort."""
        facts = {"subjects": str(len(self.cases))}
        for severity in ("error", "warning"):
            affected = [index for index, problem in self.findings if CHECKS[problem.check] == severity]
            facts[f"{severity}s"] = f"{len(affected)} in {_subjects(affected)}" if affected else "none"
        return facts | dict(self.cohort)

    @property
    def counts(self) -> list[tuple[str, str, int, str]]:
        """Name, severity, number of findings and affected subjects of each check with findings, ordered as `CHECKS`."""
        indices = {name: [index for index, problem in self.findings if problem.check == name] for name in CHECKS}
        return [(name, CHECKS[name], len(cases), _subjects(cases)) for name, cases in indices.items() if cases]

    @property
    def problems(self) -> dict[int, list[Problem]]:
        """Problems by case index (-1: the whole cohort); cases with errors first, otherwise in datalist order."""
        problems: dict[int, list[Problem]] = {}
        for index, problem in sorted(self.findings, key=lambda finding: finding[0]):
            problems.setdefault(index, []).append(problem)
        errors = {
            index: listed
            for index, listed in problems.items()
            if any(CHECKS[problem.check] == "error" for problem in listed)
        }
        return errors | problems


def _subjects(indices: Sequence[int]) -> str:
    count = len(set(indices) - {-1})
    return "the cohort" if count == 0 else f"{count} subject{'s' if count > 1 else ''}"


def check(
    datalist: str,
    root: str,
    output: str | None = None,
    fixed: str | None = None,
    accept: str | Sequence[str] = (),
    workers: int = 0,
) -> None:
    """Open every file of a datalist and report problems that would stop training, spoil it or inflate the scores.

    Errors: a file that is missing, damaged, too large, not 3D or not on its subject's grid; NaN, infinite or constant
    voxels; a label that is missing, has unknown values or is listed as an image; two modalities with the same voxels; a
    subject, image or label that occurs twice, in one split (duplicate) or in two (leakage); visits of one person in two
    splits (leakage).

    Warnings: subjects without a lesion, regions absent from all label maps, unregistered modalities, and
    images that differ from most of the cohort in orientation, spacing, skull, extent or air.
    Errors and warnings give exit status 1.

    Args:
        datalist: JSON file.
        root: folder that the datalist's paths are relative to.
        output: folder for findings.csv and findings.html, a page with pictures of the affected subjects and of a
            sample of the remaining subjects.
        fixed: file for a datalist without the subjects that have errors; accepted errors do not count.
        accept: checks to report without changing the exit status, such as empty_mask,orientation.
        workers: processes; 0 for one per core.
    """
    check_number("workers", workers, int, 0, 1024)
    accepted = {name for name in names_of(accept) if name}
    for name in sorted(accepted):
        choice("accept", name, CHECKS)
    source = expand_home(datalist, f"--datalist={datalist}")
    target, repaired = (
        None if value is None else expand_home(value, f"--{name}={value}")
        for name, value in (("output", output), ("fixed", fixed))
    )
    outputs = [] if target is None else [("output", target / name) for name in PAGES]
    if target is not None:
        target.mkdir(parents=True, exist_ok=True)
    if repaired is not None:
        outputs.append(("fixed", repaired))
    check_outputs(outputs, {"datalist": source})
    if repaired is not None:
        datalists.check_replaceable(repaired)
    folder = expand_home(root, f"--root={root}")
    content = datalists.read(source, may_repeat=True)  # repeats are reported below
    cases = [{**entry, "split": split} for split in datalists.SPLITS for entry in content.get(split, [])]
    if not cases:
        raise InputError(f"--datalist={datalist}: no subjects")
    _check_root(cases, root, folder)
    work = partial(examine, root=str(folder), convention=content["label_convention"])
    records = map_in_processes(work, cases, workers, "subject")
    measured = [record.preparation for record in records if record.preparation is not None]
    facts = {"scans": describe(union(measured)) if measured else "no readable image"}
    if lacking := count_missing(cases, content["modalities"]):
        facts["missing"] = ", ".join(f"{names} in {count} subjects" for names, count in lacking.items())
    if text := people_in(content):
        facts["people"] = text
    convention = content["label_convention"]
    findings = _ordered(cases, records, compare(cases, records, convention))
    result = Result(source.name, cases, findings, facts, content["modalities"], convention)
    lines = _lines(result)
    try:
        if target is not None:
            lines += _write(result, target, str(folder), workers)
        if repaired is not None:
            lines += _exclude(content, result, str(repaired), accepted)
    finally:
        show(*lines)
    if any(problem.check not in accepted for _, problem in result.findings):
        raise SystemExit(1)


def _check_root(cases: Sequence[Mapping[str, Any]], root: str, folder: Path) -> None:
    """Raise an InputError if no listed file exists below the root: the root is then probably wrong."""
    files = {file for case in cases for file in files_in(case)}
    if not any((folder / file).exists() for file in files):
        example = first_image(cases[0])
        raise InputError(f"--root={root}: none of the listed files is in this folder; expected {example} there")


def _ordered(
    cases: Sequence[Mapping[str, Any]], records: Sequence[Record], cohort_findings: Sequence[tuple[int, Problem]]
) -> list[tuple[int, Problem]]:
    """Return all findings: first those on the whole cohort, then the rest by case, file and position in `CHECKS`."""
    subject_findings = [(index, problem) for index, record in enumerate(records) for problem in record.problems]
    order = list(CHECKS)

    def rank(finding: tuple[int, Problem]) -> tuple[int, int, int]:
        index, problem = finding
        files = [*cases[index]["image"], cases[index].get("label")] if index >= 0 else [""]
        return index, files.index(problem.file), order.index(problem.check)

    return sorted([*subject_findings, *cohort_findings], key=rank)


def _lines(result: Result) -> list[str]:
    """Return a result as lines for the terminal."""
    summary = f"{result.name}: " + "; ".join(f"{fact}: {value}" for fact, value in result.facts.items())
    if not result.findings:
        return [summary, "no problems found"]
    table = aligned([("check", "severity", "findings", "in"), *result.counts], right=(2,))
    findings = []
    for subject, split, file, severity, name, value, expected in result.rows:
        where = f"{split} {subject}: {file}" if subject else "the cohort"
        findings.append(f"{severity}: {name}: {where}: {value}; expected {expected}")
    return [summary, "", *table, "", *findings]


def _write(result: Result, output: Path, root: str, workers: int) -> list[str]:
    """Write findings.csv and findings.html; return lines with their paths."""
    from scripts.datalists.page import draw, page  # slow import of PyTorch

    table, site = (output / name for name in PAGES)
    write_csv(table, [COLUMNS, *result.rows])
    problems = result.problems
    cohort = problems.pop(-1, [])
    clean = [index for index in range(len(result.cases)) if index not in problems]
    sample = clean[:: -(-len(clean) // SAMPLE) or 1]
    shown = [*list(problems)[:PICTURES], *sample]
    orders = [(result.cases[index], problems[index][0].file if index in problems else None) for index in shown]
    work = partial(draw, root=root, modalities=result.modalities, convention=result.convention)
    drawn = map_in_processes(work, orders, workers, "picture")
    subjects = [
        {"case": result.cases[index], "problems": problems.get(index, []), "picture": picture}
        for index, picture in zip(shown, drawn, strict=True)
    ]
    made_up = any(is_made_up(Path(root, first_image(result.cases[index]))) for index in shown)
    with atomic_write(site) as path:
        path.write_text(page(result, subjects, cohort, made_up), encoding="utf-8")
    return ["", str(table), str(site)]


def _exclude(content: Mapping[str, Any], result: Result, fixed: str, accepted: Collection[str]) -> list[str]:
    """Write the datalist without the subjects with errors; return lines for the terminal that name them.

    Raise an InputError if all training subjects, or all subjects, have errors.
    """
    errors: dict[int, list[str]] = {}
    for index, problem in result.findings:
        if CHECKS[problem.check] == "error" and problem.check not in accepted:
            errors.setdefault(index, []).append(problem.check)
    indices = count()  # of cases
    splits = [split for split in datalists.SPLITS if split in content]
    remaining = {split: [entry for entry in content[split] if next(indices) not in errors] for split in splits}
    total = f"{len(result.cases) - len(errors)} of {len(result.cases)} subjects"
    if not any(remaining.values()):
        raise InputError(f"--fixed={fixed}: every subject has an error; expected subjects without errors")
    if content.get("training") and not remaining["training"]:
        raise InputError(f"--fixed={fixed}: no training subject is free of errors; {total} are")
    datalists.write({**content, **remaining}, fixed)
    lines = ["", f"{fixed}: {total}"]
    for case, checks in ((result.cases[index], checks) for index, checks in sorted(errors.items())):
        lines.append(f"left out: {case['subject']} of {case['split']}: {', '.join(dict.fromkeys(checks))}")
    return lines
