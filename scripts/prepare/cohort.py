"""Prepare the raw scans of all subjects, or resample their label maps to raw grids, in parallel."""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import SimpleITK as sitk  # noqa: N813, the field's name for it
from threadpoolctl import threadpool_limits

from common import made
from common.errors import ArgumentError, InputError, choice, is_disk_full, one_line, shortened, show
from common.files import claimed, write_csv
from scripts.datalists.files import write
from scripts.pages.templates import write_page
from scripts.pools import map_in_processes
from scripts.prepare.figures import UNITS
from scripts.prepare.scans import find_subjects
from scripts.prepare.settings import RECORD, Settings
from scripts.prepare.subjects import LEFT_OUT, Outcome, hide, prepare_one, scan_file, send_back

DATALIST, QUALITY, PAGE = "datalist.json", "quality.csv", "overview.html"


def prepare_scans(
    root: Path,
    output: Path,
    settings: Settings,
    patterns: Mapping[str, str] | None = None,
    labels: str | None = None,
    missing: str = "refuse",
    include: str | None = None,
    jobs: int = 1,
) -> list[Outcome]:
    """Prepare the subjects of a folder, write tables and overview page, and print a summary.

    The options are those of `python -m scripts.prepare`. Subjects with unchanged files and settings are not prepared
    again, and stay included. Subjects that fail, or are outside their limits and not included, are left out of the
    datalist, and their folders are hidden.
    """
    keeps_missing = choice("missing", missing, {"refuse": False, "keep": True})
    masks = settings.brain if "*" in settings.brain else None
    subjects = find_subjects(root, settings.modalities, patterns or {}, labels, keeps_missing, masks)
    names = [subject.name for subject in subjects]
    included = [name for name in str(include or "").split(",") if name]
    if unknown := {*included} - {*names}:
        raise ArgumentError("include", include, f"no such subject: {min(unknown)}", f"some of {shortened(names, 12)}")
    with claimed("output", output):
        if not (output / made.MADE).exists() and any(not path.name.startswith(".") for path in output.iterdir()):
            raise InputError(f"{output}: not written by scripts.prepare (no {made.MADE}); expected a new --output")
        made.Results(output, made.origin_of({}) | {"settings": {"preparation": settings.describe()}}).begin()
        work = {
            subject.name: partial(prepare_one, subject, settings, output, subject.name in included)
            for subject in subjects
        }
        outcomes = run_in_processes(work, jobs, "subject")
        for name in (outcome.name for outcome in outcomes if outcome.fault):
            hide(output, name)  # earlier results are not current
        write(_datalist(outcomes, settings, output), output / DATALIST)
        rows = [(outcome.name, row) for outcome in outcomes if outcome.figures for row in outcome.figures.rows()]
        table = [
            (name, row.modality, row.name, f"{row.value:.6g}", UNITS.get(row.name, "1"), row.lowest, row.highest)
            for name, row in rows
        ]
        write_csv(output / QUALITY, [("subject", "modality", "figure", "value", "unit", "lowest", "highest"), *table])
        content: Any = {"outcomes": outcomes, "settings": settings, "hidden": LEFT_OUT, "shows_files": True}
        write_page(output / PAGE, Path(__file__).with_name("overview.html.j2"), made=made.origin_of({}), **content)
        unlisted = sorted({file.parent.name for file in output.glob(f"*/{RECORD}")} - {*names})
        if unlisted:
            show(f"warning: {DATALIST} lacks subjects of earlier runs in {output}: {shortened(unlisted)}", error=True)
    _report(outcomes, f"prepared: {output / PAGE} (look at it: the contrast is not checked)")
    return outcomes


def send_all(files: Mapping[str, Path], prepared: Path, target: Path, modality: str | None = None) -> list[Outcome]:
    """Resample label maps (`files`, by prepared subject) to the grids of the raw scans, and print a summary.

    A result of the same label map and preparation stays, because the user may have corrected it by hand.
    """
    source = made.read_origin(next(iter(files.values())).parent)
    settings = source["settings"] | {"modality": modality}
    results = made.Results(target, made.origin_of({}) | {"checkpoints": source["checkpoints"], "settings": settings})
    inputs = {name: [file, prepared / name / RECORD] for name, file in files.items()}
    work = {
        name: partial(send_back, file, name, prepared, target, modality)
        for name, file in files.items()
        if not results.is_current(name, inputs[name]) or not (target / f"{name}.nii.gz").is_file()
    }
    outcomes = [*(Outcome(name) for name in files if name not in work), *run_in_processes(work, 1, "label map")]
    if written := [outcome.name for outcome in outcomes if outcome.is_new]:
        results.add({name: inputs[name] for name in written})
    _report(outcomes, f"written to {target}" if written else "nothing written")
    return outcomes


def output_folder(output: str, *sources: Path) -> Path:
    """Return the output folder; raise an InputError if it lies in an input folder."""
    folder = Path(output).expanduser()
    if source := next((path for path in sources if folder.resolve().is_relative_to(path.resolve())), None):
        raise InputError(f"--output={output}: lies in {source}; expected a folder outside the input")
    return folder


def run_in_processes(work: Mapping[str, Callable[[], Outcome]], jobs: int, unit: str) -> list[Outcome]:
    """Do the work of each subject, a `unit`, in `jobs` processes; a failure becomes an outcome, a full disk raises."""
    threads = max(1, (os.cpu_count() or 1) // jobs)
    return map_in_processes(partial(_attempt, threads), list(work.items()), jobs, unit, on_result=show)


def _attempt(threads: int, item: tuple[str, Callable[[], Outcome]]) -> Outcome:
    name, work = item
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        with threadpool_limits(threads):
            return work()
    except Exception as error:  # one failure must not stop the run
        if is_disk_full(error):
            raise
        return Outcome(name, fault=one_line(error))


def _datalist(outcomes: Sequence[Outcome], settings: Settings, output: Path) -> dict[str, Any]:
    """Return a datalist of the usable subjects, for testing."""
    entries = []
    for outcome in outcomes:
        if outcome.is_usable and outcome.figures:
            name = outcome.name
            files = {modality: f"{name}/{scan_file(name, modality)}" for modality in outcome.figures.modalities}
            entries.append({"subject": name, "image": [*map(files.get, settings.modalities)]})
    return {
        "name": output.resolve().name or "prepared",
        "modalities": list(settings.modalities),
        "label_convention": None,
        "preparation": f"by scripts.prepare: {settings.describe()}",
        "space": settings.like,
        "training": [],
        "validation": [],
        "testing": entries,
    }


def _report(outcomes: Sequence[Outcome], done: str) -> None:
    """Print remarks and a summary."""
    show(*(f"{outcome.name}: remark: {remark}" for outcome in outcomes for remark in outcome.remarks))
    failed = [outcome.name for outcome in outcomes if outcome.fault]
    outside = [outcome.name for outcome in outcomes if outcome.is_left_out]
    new = sum(outcome.is_new for outcome in outcomes)
    before, names = len(outcomes) - new - len(failed), f" ({shortened(failed)})" if failed else ""
    show(f"{new} new, {before} done before, {len(failed)} failed{names}, {len(outside)} outside limits; {done}")
    if outside:
        show(f"if their pictures are right: --include={','.join(outside)}")
