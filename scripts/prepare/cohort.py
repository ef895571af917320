"""Prepare the raw scans of all subjects, or resample their label maps to raw grids, in parallel."""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import SimpleITK as sitk  # noqa: N813, the field's name for it
from threadpoolctl import threadpool_limits

from common import made
from common.data import datalists
from common.data.scan_checks import first_line
from common.errors import (
    ArgumentError,
    InputError,
    check_number,
    choice,
    input_error_message,
    is_disk_full,
    shortened,
    show,
)
from common.files import atomic_write, expand_home, write_csv
from common.locks import claimed
from scripts.pages.templates import render
from scripts.pools import map_in_processes
from scripts.prepare.figures import UNITS, Figures
from scripts.prepare.scans import find_subjects
from scripts.prepare.settings import RECORD, Settings
from scripts.prepare.subjects import WORK, Outcome, folder_of, move, prepare_one, read_record, scan_file, send_back

DATALIST, QUALITY, PAGE = "datalist.json", "quality.csv", "overview.html"


def prepare_scans(
    root: Path,
    output: Path,
    settings: Settings,
    patterns: Mapping[str, str] | None = None,
    labels: str | None = None,
    missing: str = "refuse",
    accept: str | None = None,
    jobs: int = 1,
) -> list[Outcome]:
    """Prepare the subjects of a folder, write tables and overview page, and print a summary.

    The options are those of `python -m scripts.prepare`. Subjects with unchanged files and settings are not prepared
    again, and stay accepted. Subjects that fail, or are outside their limits and not accepted, are left out of the
    datalist, and their folders are hidden.
    """
    check_number("jobs", jobs, int, 1, 1024)
    keeps_missing = choice("missing", missing, {"refuse": False, "keep": True})
    masks = settings.brain if "*" in settings.brain else None
    subjects = find_subjects(root, settings.modalities, patterns or {}, labels, keeps_missing, masks)
    names = [subject.name for subject in subjects]
    accepted = [accept] if accept in names else str(accept or "").split(",")
    if unknown := {*accepted} - {*names, ""}:
        raise ArgumentError("accept", accept, f"no such subject: {min(unknown)}", f"some of {shortened(names, 12)}")
    with claimed("output", output):
        if not (output / made.MADE).exists() and any(not path.name.startswith(".") for path in output.iterdir()):
            raise InputError(f"{output}: not written by scripts.prepare (no {made.MADE}); expected a new --output")
        made.Results(output, made.origin_of({}) | {"settings": {"preparation": settings.describe()}}).begin()
        shutil.rmtree(output / WORK, ignore_errors=True)  # left by a killed command
        work = {
            subject.name: partial(prepare_one, subject, settings, output, subject.name in accepted)
            for subject in subjects
        }
        outcomes = run_in_processes(work, jobs, "subject")
        for outcome in outcomes:
            if outcome.fault and (output / outcome.name).is_dir():  # hide earlier results, which are not current
                move(output / outcome.name, output, outcome.name, is_left_out=True)
        shutil.rmtree(output / WORK, ignore_errors=True)
        folders = {o.name: folder_of(output, o.name, o.is_left_out) for o in outcomes if not o.fault}
        records = {name: read_record(folder) for name, folder in folders.items()}
        usable = {outcome.name: records[outcome.name] for outcome in outcomes if outcome.is_usable}
        datalists.write(_datalist(usable, settings, output), output / DATALIST)
        rows = [(name, *row) for name, record in records.items() for row in Figures(**record["figures"]).rows()]
        table = [(*row[:3], f"{row[3]:.6g}", UNITS.get(row[2], "1"), *row[4:]) for row in rows]
        write_csv(output / QUALITY, [("subject", "modality", "figure", "value", "unit", "lowest", "highest"), *table])
        _write_page(outcomes, folders, records, settings, output)
        unlisted = sorted({file.parent.name for file in output.glob(f"*/{RECORD}")} - {*names})
        if unlisted:
            show(f"warning: {DATALIST} lacks subjects of earlier runs in {output}: {shortened(unlisted)}", error=True)
    _report(outcomes, f"prepared: {output / PAGE} (look at it: the contrast is not checked)")
    return outcomes


def send_all(
    files: Mapping[str, Path], prepared: Path, target: Path, modality: str | None = None, jobs: int = 1
) -> list[Outcome]:
    """Resample label maps (`files`, by prepared subject) to the grids of the raw scans, and print a summary.

    A result of the same label map and preparation stays, because the user may have corrected it by hand.
    """
    source = made.read_origin(next(iter(files.values())).parent) or {"checkpoints": {}, "settings": {}}
    stated = {name: made.stated(source, name) for name in ("cleanup", "label_convention")}
    origin = made.origin_of({}) | stated | {"checkpoints": source["checkpoints"], "settings": {"modality": modality}}
    results = made.Results(target, origin)
    inputs = {name: [file, prepared / name / RECORD] for name, file in files.items()}
    work = {
        name: partial(send_back, file, name, prepared, target, modality)
        for name, file in files.items()
        if not results.is_current(name, inputs[name]) or not (target / f"{name}.nii.gz").is_file()
    }
    outcomes = [*(Outcome(name) for name in files if name not in work), *run_in_processes(work, jobs, "label map")]
    if written := [outcome.name for outcome in outcomes if outcome.is_new]:
        results.add({name: inputs[name] for name in written})
    _report(outcomes, f"written to {target}" if written else "nothing written")
    return outcomes


def output_folder(output: str, *sources: Path) -> Path:
    """Return the output folder; raise an InputError if it lies in an input folder."""
    folder = expand_home(output, f"--output={output}")
    if source := next((path for path in sources if folder.resolve().is_relative_to(path.resolve())), None):
        raise InputError(f"--output={output}: lies in {source}; expected a folder outside the input")
    return folder


def run_in_processes(work: Mapping[str, Callable[[], Outcome]], jobs: int, unit: str) -> list[Outcome]:
    """Do the work of each subject in `jobs` processes that share the cores.

    A failing subject becomes an outcome; a full disk raises. `unit` labels the progress bar.
    """
    threads = max(1, (os.cpu_count() or 1) // jobs)
    return map_in_processes(partial(_attempt, threads), list(work.items()), jobs, unit, on_result=show)


def _attempt(threads: int, item: tuple[str, Callable[[], Outcome]]) -> Outcome:
    name, work = item
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        with threadpool_limits(threads):
            return work()
    except MemoryError:
        return Outcome(name, fault="out of memory; use fewer --jobs")
    except Exception as error:  # one failure must not stop the run
        if is_disk_full(error):
            raise
        message = input_error_message(error) or f"{type(error).__name__}: {first_line(error)}; expected a head scan"
        return Outcome(name, fault=message)


def _datalist(records: Mapping[str, Mapping[str, Any]], settings: Settings, output: Path) -> dict[str, Any]:
    """Return a datalist of the usable subjects, for testing."""
    entries = []
    for name, record in records.items():
        files = {modality: f"{name}/{scan_file(name, modality)}" for modality in record["transforms"]}
        entries.append({"subject": name, "image": [files.get(modality) for modality in settings.modalities]})
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


def _write_page(
    outcomes: Sequence[Outcome],
    folders: Mapping[str, Path],
    records: Mapping[str, Mapping[str, Any]],
    settings: Settings,
    output: Path,
) -> None:
    pictures = [
        {
            "name": name,
            "figures": "; ".join(row.text for row in Figures(**records[name]["figures"]).rows()),
            "file": (folder / f"{name}.png").relative_to(output).as_posix(),
        }
        for name, folder in folders.items()
    ]
    template = Path(__file__).with_name("overview.html.j2")
    page = render(
        template,
        made=made.origin_of({}),
        outcomes=outcomes,
        settings=settings,
        pictures=pictures,
        shows_files=True,
    )
    with atomic_write(output / PAGE) as file:
        file.write_text(page, encoding="utf-8")


def _report(outcomes: Sequence[Outcome], done: str) -> None:
    """Print remarks and a summary."""
    show(*(f"{outcome.name}: remark: {remark}" for outcome in outcomes for remark in outcome.remarks))
    failed = [outcome.name for outcome in outcomes if outcome.fault]
    outside = [outcome.name for outcome in outcomes if outcome.is_left_out]
    new = sum(outcome.is_new for outcome in outcomes)
    counts = [
        f"{new} new",
        f"{len(outcomes) - new - len(failed)} done before",
        f"{len(failed)} failed" + (f" ({shortened(failed)})" if failed else ""),
        f"{len(outside)} outside limits",
    ]
    show(f"{', '.join(counts)}; {done}")
    if outside:
        show(f"if their pictures are right: --accept={','.join(outside)}")
