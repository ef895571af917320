"""The check of a cohort before anything is trained on it: `python -m scripts.datalists check`.

Each subject's files are opened in a process of their own choice; what stays in memory of them is a few numbers. The
checks are those of `common.checks`, and `scripts.datalist_cohort` holds the subjects against each other.
"""

import csv
import json
import os
import sys
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cached_property, partial
from multiprocessing import parent_process
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

from tqdm import tqdm

from common import datalists
from common.checks import CHECKS, Problem, Record, examine
from common.files import whole
from common.preflight import InputError, check_number
from scripts.datalist_cohort import compare, describe

__all__ = ["Finding", "Result", "check", "each"]

PAGES = ("findings.csv", "findings.html")
NO_RECORD = "reading them ended the process, twice"


class Finding(NamedTuple):
    """A line of findings.csv; subject, split and file are empty where it is about the whole cohort."""

    subject: str
    split: str
    file: str
    severity: str
    check: str
    value: str
    expected: str


@dataclass(frozen=True)
class Result:
    """What a check has found.

    Attributes:
        name: of the datalist.
        cases: of all splits, each with its "split".
        found: problems, each with the place of its case (-1: the whole cohort), in the order in which they are told.
        cohort: what it is like, fact by fact.
    """

    name: str
    cases: Sequence[Mapping[str, Any]]
    found: Sequence[tuple[int, Problem]]
    cohort: Mapping[str, str]

    @cached_property
    def findings(self) -> list[Finding]:
        """The lines of findings.csv."""
        return [self.finding(place, problem) for place, problem in self.found]

    def finding(self, place: int, problem: Problem) -> Finding:
        """A problem with the subject and the split that it is in."""
        subject, split = (self.cases[place]["subject"], self.cases[place]["split"]) if place >= 0 else ("", "")
        severity = CHECKS[problem.check]
        return Finding(subject, split, problem.file, severity, problem.check, problem.value, problem.expected)

    @property
    def facts(self) -> dict[str, str]:
        """The check in a few words."""
        facts = {"subjects": str(len(self.cases))}
        for severity in ("error", "warning"):
            places = [place for place, problem in self.found if CHECKS[problem.check] == severity]
            facts[f"{severity}s"] = f"{len(places)} in {_subjects(places)}" if places else "none"
        return facts | dict(self.cohort)

    @property
    def kinds(self) -> list[tuple[str, str, int, str]]:
        """Check, severity, number of findings, and whom they are about, in the order of `CHECKS`."""
        places = {name: [place for place, problem in self.found if problem.check == name] for name in CHECKS}
        return [(name, CHECKS[name], len(found), _subjects(found)) for name, found in places.items() if found]

    @property
    def suspects(self) -> list[int]:
        """Places of the cases that have a problem: those with an error first, then in the order of the datalist."""
        sound: dict[int, bool] = {}
        for place, problem in self.found:
            sound[place] = sound.get(place, True) and CHECKS[problem.check] != "error"
        return sorted((place for place in sound if place >= 0), key=lambda place: (sound[place], place))


def _subjects(places: Sequence[int]) -> str:
    count = len(set(places) - {-1})
    return "the cohort" if count == 0 else f"{count} subject{'s' if count > 1 else ''}"


def check(
    datalist: str,
    root: str,
    output: str | None = None,
    fix: str | None = None,
    fixed: str | None = None,
    accept: str | Sequence[str] = (),
    pictures: int = 200,
    workers: int = 0,
) -> None:
    """Open every file of a datalist and say what would stop a training, spoil it in silence, or flatter its figures.

    Errors are files that are missing or cannot be read to their end, that are not 3D, that do not share the grid of
    their subject, NaN or infinite or constant voxels, labels that are missing, that the convention does not know or
    that are among the images, subjects or images that are there twice, in one split (duplicate) or in two (leakage),
    and visits of one person in two splits (leakage too). Warnings are subjects without lesion, modalities or masks that
    are copies, and what stands out from the cohort: orientation, spacing, intensities, extracted brains among whole
    heads. The exit status is 1 where there is either.

    Args:
        datalist: JSON file.
        root: folder that its paths are relative to.
        output: folder for findings.csv and findings.html, a page with a picture of each suspicious subject.
        fix: exclude, to write a datalist without the subjects that have an error which is not accepted.
        fixed: where to write it.
        accept: names of checks, such as empty_mask,orientation: they are told but leave the exit status 0.
        pictures: how many subjects the page shows at most, errors first; findings.csv has them all.
        workers: processes; 0 for one per core.
    """
    accepted = _check_options(datalist, fix, fixed, accept, pictures, workers)
    _check_places(datalist, output, fixed)
    folder = Path(str(root)).expanduser()
    if not folder.is_dir():
        raise InputError(
            f"--root={root}: no such folder; expected the one that the paths of {datalist} are relative to"
        )
    content = _read(datalist)
    cases = [{**entry, "split": split} for split in datalists.SPLITS for entry in content.get(split, [])]
    if not cases:
        raise InputError(f"--datalist={datalist}: no subject in it; expected one at least")
    _check_root(cases, root, folder)
    processes = int(workers) or os.cpu_count() or 1
    records = _records(cases, str(folder), content["label_convention"], processes)
    result = Result(Path(str(datalist)).name, cases, _ordered(cases, records, content["modalities"]), describe(records))
    lines = _lines(result)
    try:
        if output is not None:
            lines += _write(result, Path(str(output)), str(folder), pictures, processes)
        if fixed is not None:
            lines += _exclude(content, result, str(fixed), accepted)
    finally:
        _print(lines)
    if any(finding.check not in accepted for finding in result.findings):
        raise SystemExit(1)


def each(function: Callable[[Any], Any], items: Sequence[Any], workers: int, unit: str) -> list[Any]:
    """What a function makes of each item, in other processes; None where it ended its process, twice.

    Where a process is killed, the items that were being worked on are tried once more, each in a process of its own.
    """
    results: list[Any] = [None] * len(items)
    places = deque(range(len(items)))
    with tqdm(total=len(items), unit=unit) as bar:
        while places:
            for suspect in _drain(function, items, places, results, workers, bar):
                if _drain(function, items, deque([suspect]), results, 1, bar):
                    bar.update()
    return results


def _drain(
    function: Callable[[Any], Any], items: Sequence[Any], places: deque[int], results: list[Any], workers: int, bar: Any
) -> list[int]:
    """Work until no place is left or a process is killed; the places that were being worked on then."""
    running: dict[Future[Any], int] = {}
    with ProcessPoolExecutor(min(workers, len(places)), initializer=_end_with_parent) as pool:
        try:
            while places or running:
                while places and len(running) < 2 * workers:
                    running[pool.submit(function, items[places[0]])] = places[0]
                    places.popleft()
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    results[running[future]] = future.result()
                    del running[future]
                    bar.update()
        except BrokenProcessPool:
            return sorted(running.values())
    return []


def _end_with_parent() -> None:
    """End this process when its parent has been killed; it would wait for work for ever."""
    Thread(target=_watch, args=(parent_process(),), daemon=True).start()


def _watch(parent: Any) -> None:
    parent.join()
    os._exit(1)


def _check_options(
    datalist: str, fix: str | None, fixed: str | None, accept: str | Sequence[str], pictures: int, workers: int
) -> set[str]:
    """The checks to accept.

    Raises:
        InputError: an option has a value that it cannot have.
    """
    check_number("pictures", pictures, int, 0)
    check_number("workers", workers, int, 0, 1024)
    if fix not in (None, "exclude"):
        raise InputError(f"--fix={fix}: expected exclude")
    if (fix is None) != (fixed is None):
        raise InputError(f"--fix={fix} --fixed={fixed}: expected both, such as --fix=exclude --fixed=G.json")
    listed = accept.split(",") if isinstance(accept, str) else accept
    names = set(map(str, listed if isinstance(listed, Sequence) else [listed])) - {""}
    for name in sorted(names - set(CHECKS)):
        raise InputError(f"--accept={name}: expected some of {', '.join(CHECKS)}")
    return names


def _check_places(datalist: str, output: str | None, fixed: str | None) -> None:
    """Refuse, before an hour of reading, files that cannot be written after it, or that would replace each other.

    Raises:
        InputError: one is so.
    """
    source = Path(str(datalist)).resolve()
    pages = [] if output is None else [Path(str(output)).resolve() / name for name in PAGES]
    if source in pages:
        raise InputError(f"--output={output}: {source.name} in it is --datalist; expected another folder")
    for page in pages:
        _check_file(page, f"--output={output}: expected a folder that can be written to")
    if fixed is None:
        return
    target = Path(str(fixed)).resolve()
    if target == source:
        raise InputError(f"--fixed={fixed}: expected another file than --datalist")
    for page in pages:
        if target == page or target in page.parents or page in target.parents:
            raise InputError(f"--fixed={fixed}: expected another file than {page.name} of --output, and none around it")
    _check_file(target, f"--fixed={fixed}: expected a file that can be written")


def _check_file(path: Path, message: str) -> None:
    above = next(folder for folder in path.parents if folder.exists())
    if path.is_dir() or not above.is_dir() or not os.access(above, os.W_OK):
        raise InputError(message)


def _check_root(cases: Sequence[Mapping[str, Any]], root: str, folder: Path) -> None:
    """Refuse a root that has none of the files: it is the wrong one.

    Raises:
        InputError: it is so.
    """
    files = {file for case in cases for file in (*case["image"], case.get("label")) if file}
    if not any((folder / file).exists() for file in files):
        example = cases[0]["image"][0]
        raise InputError(f"--root={root}: none of the {len(files)} files is below --root; expected {example} there")


def _read(datalist: str) -> dict[str, Any]:
    """The content of a datalist; a subject that is in it more than once is for the check to tell."""
    try:
        return _content(datalist)
    except RecursionError as error:
        raise InputError(f"datalist {datalist}: nested too deeply; expected a datalist") from error


def _content(datalist: str) -> dict[str, Any]:
    try:
        content = json.loads(Path(str(datalist)).read_text(encoding="utf-8"))
        entries = [(split, entry, entry["subject"]) for split in datalists.SPLITS for entry in content.get(split, [])]
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return datalists.read(str(datalist))  # which says what is wrong with it
    head = {name: value for name, value in content.items() if name not in datalists.SPLITS}
    times: Counter[str] = Counter()
    rounds: dict[int, dict[str, Any]] = {1: dict(head)}
    for split, entry, subject in entries:
        times[str(subject)] += 1
        rounds.setdefault(times[str(subject)], dict(head)).setdefault(split, []).append(entry)
    for part in rounds.values():  # each has a subject once
        datalists.check(part, str(datalist))
    return content


def _records(cases: Sequence[Mapping[str, Any]], root: str, convention: str | None, workers: int) -> list[Record]:
    from common.transforms import CONVENTIONS  # here, as PyTorch takes seconds that other commands need not wait

    known = {name: frozenset({0}).union(*regions.values()) for name, regions in CONVENTIONS.items()}
    records = each(partial(examine, root=root, convention=convention, known=known), cases, workers, "subject")
    return [
        record or Record((Problem("unreadable", case["image"][0], NO_RECORD, "files that fit into memory"),))
        for case, record in zip(cases, records, strict=True)
    ]


def _ordered(
    cases: Sequence[Mapping[str, Any]], records: Sequence[Record], modalities: Sequence[str]
) -> list[tuple[int, Problem]]:
    """All problems with the place of their case, in the order of the datalist, of the files, and of `CHECKS`."""
    own = [(place, problem) for place, record in enumerate(records) for problem in record.problems]
    order = list(CHECKS)

    def rank(found: tuple[int, Problem]) -> tuple[int, int, int]:
        place, problem = found
        files = [*cases[place]["image"], cases[place].get("label")] if place >= 0 else [""]
        return place, files.index(problem.file), order.index(problem.check)

    return sorted([*own, *compare(cases, records, modalities)], key=rank)


def _lines(result: Result) -> list[str]:
    """What the terminal shows of a result."""
    summary = f"{result.name}: " + "; ".join(f"{fact}: {value}" for fact, value in result.facts.items())
    if not result.found:
        return [summary, "all is well"]
    table = [f"{name:<18}{severity:<10}{count:>8}  {subjects}" for name, severity, count, subjects in result.kinds]
    found = []
    for item in result.findings:
        where = f"{item.split} {item.subject}: {item.file}" if item.subject else "the cohort"
        found.append(f"{item.severity}: {item.check}: {where}: {item.value}; expected {item.expected}")
    return [summary, "", f"{'check':<18}{'severity':<10}{'findings':>8}  in", *table, "", *found]


def _print(lines: Sequence[str]) -> None:
    """Print, to a reader who may have read enough before the end, such as `head`."""
    try:
        print("\n".join(lines), flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is not tried again at exit


def _write(result: Result, output: Path, root: str, pictures: int, workers: int) -> list[str]:
    """Write findings.csv and findings.html, and say where they are."""
    from scripts.datalist_page import draw, page  # here, as PyTorch takes seconds that other commands need not wait

    table, site = (output / name for name in PAGES)
    with whole(table) as path, path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Finding._fields)
        writer.writerows(result.findings)
    shown = result.suspects[:pictures]
    problems: dict[int, list[Problem]] = {}
    for place, problem in result.found:
        problems.setdefault(place, []).append(problem)
    orders = [(result.cases[place], problems[place][0].file) for place in shown]
    drawn = each(partial(draw, root=root), orders, workers, "picture")
    suspects = [
        {"case": result.cases[place], "problems": problems[place], "picture": picture}
        for place, picture in zip(shown, drawn, strict=True)
    ]
    with whole(site) as path:
        path.write_text(page(result, suspects, problems.get(-1, [])), encoding="utf-8")
    return ["", str(table), str(site)]


def _exclude(content: Mapping[str, Any], result: Result, fixed: str, accepted: Collection[str]) -> list[str]:
    """Write the datalist without the subjects that have an error, and say which these are.

    Raises:
        InputError: nobody is left, for training or at all.
    """
    errors: dict[int, list[str]] = {}
    for place, problem in result.found:
        if CHECKS[problem.check] == "error" and problem.check not in accepted:
            errors.setdefault(place, []).append(problem.check)
    kept: dict[str, list[Any]] = {split: [] for split in datalists.SPLITS if split in content}
    entries = [entry for split in datalists.SPLITS for entry in content.get(split, [])]
    for place, (entry, case) in enumerate(zip(entries, result.cases, strict=True)):
        if place not in errors:
            kept[case["split"]].append(entry)
    if (content.get("training") and not kept["training"]) or not any(kept.values()):
        left = f"{len(entries) - len(errors)} of {len(entries)} subjects"
        raise InputError(f"--fixed={fixed}: without those in error {left} are left, none for training; expected one")
    datalists.write({**content, **kept}, fixed)
    lines = ["", f"{fixed}: {len(entries) - len(errors)} of {len(entries)} subjects"]
    for place, names in sorted(errors.items()):
        case = result.cases[place]
        lines.append(f"left out: {case['subject']} of {case['split']}: {', '.join(dict.fromkeys(names))}")
    return lines
