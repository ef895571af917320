"""Prepare all subjects of a folder in parallel, and write the tables and the overview page."""

import os
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path

import SimpleITK as sitk  # noqa: N813, the field's name for it
import yaml
from threadpoolctl import threadpool_limits

from common.data import datalists
from common.data.regions import mapping_of
from common.data.scan_checks import first_line
from common.errors import InputError, input_error_message, is_disk_full, shortened, show
from common.files import atomic_write, write_csv
from common.locks import claimed
from common.made import MADE, Results, origin_of, read
from common.pages.templates import render
from scripts.pools import map_in_processes
from scripts.prepare import group
from scripts.prepare.figures import UNITS, Figures, rows
from scripts.prepare.outcome import RECORD, Outcome
from scripts.prepare.scans import DATALIST, FILES, PAGE, QUALITY, REGIONS, Subject
from scripts.prepare.settings import Settings
from scripts.prepare.subjects import (
    WORK,
    check_made_here,
    flicker_file,
    folder_of,
    leave_out,
    picture_file,
    prepare_one,
    read_record,
    scan_file,
)


def prepare_cohort(
    subjects: Sequence[Subject],
    settings: Settings,
    output: Path,
    jobs: int,
    accepted: Collection[str] = (),
) -> list[Outcome]:
    """Prepare subjects, write datalist.json, quality.csv and overview.html, and return an outcome for each subject.

    `accepted` subjects may be outside the limits. Subjects with unchanged files and
    settings are not prepared again, and stay accepted. Subjects that fail, or are outside their limits and not
    accepted, are left out of datalist.json, and their folders are hidden.
    """
    with claimed("output", output):
        foreign = None if read(output) else next((name for name in FILES if (output / name).exists()), None)
        if foreign:
            raise InputError(
                f"{output / foreign}: not written by scripts.prepare (no {MADE}); expected a different --output"
            )
        for subject in subjects:
            check_made_here(output / subject.name)
        results = Results(output, origin_of({}) | {"settings": {"preparation": settings.describe()}})
        results.begin()
        shutil.rmtree(output / WORK, ignore_errors=True)  # left by a killed command
        outcomes = {subject.name: Outcome(subject.name, fault=subject.fault) for subject in subjects if subject.fault}
        show(*outcomes.values())
        work = {
            subject.name: partial(prepare_one, subject, settings, output, subject.name in accepted)
            for subject in subjects
            if not subject.fault
        }

        def end(outcome: Outcome) -> None:
            show(outcome)
            outcomes[outcome.name] = outcome

        try:
            run_in_processes(work, jobs, "subject", end)
        except KeyboardInterrupt:
            _write_page([*outcomes.values()], len(subjects), settings, output)
            raise
        ordered = [outcomes[subject.name] for subject in subjects]
        for outcome in ordered:
            if outcome.fault:  # hide the subject's earlier results
                leave_out(output, outcome.name)
        shutil.rmtree(output / WORK, ignore_errors=True)
        regions = next((subject.regions for subject in subjects if subject.labels), None)
        _write_tables(ordered, settings, regions, output)
        _write_page(ordered, len(subjects), settings, output)
        unlisted = sorted(file.parent.name for file in output.glob(f"*/{RECORD}") if file.parent.name not in outcomes)
        if unlisted:
            show(f"warning: {DATALIST} lacks subjects of earlier runs in {output}: {shortened(unlisted)}", error=True)
    return ordered


def run_in_processes(
    work: Mapping[str, Callable[[], Outcome]],
    jobs: int,
    unit: str,
    on_outcome: Callable[[Outcome], None] = show,
) -> list[Outcome]:
    """Do the work of each subject in `jobs` processes that share the cores.

    A failing subject becomes an outcome; a full disk raises. `unit` labels the progress bar.
    """
    threads = max(1, (os.cpu_count() or 1) // jobs)
    return map_in_processes(partial(_attempt, threads), list(work.items()), jobs, unit, on_result=on_outcome)


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


def _folders(outcomes: Sequence[Outcome], output: Path) -> dict[str, Path]:
    return {o.name: folder_of(output, o.name, o.is_left_out) for o in outcomes if not o.fault}


def _write_tables(outcomes: Sequence[Outcome], settings: Settings, regions: str | None, output: Path) -> None:
    prepared = _folders(outcomes, output)
    records = {name: read_record(folder) for name, folder in prepared.items()}
    modalities = list(settings.modalities)
    content = {
        "name": output.resolve().name or "prepared",
        "modalities": modalities,
        "label_convention": None,
        "preparation": f"by scripts.prepare: {settings.describe()}",
        "space": settings.like,
        "training": [],
        "validation": [],
        "testing": [
            {
                "subject": name,
                "image": [
                    f"{name}/{scan_file(name, modality)}" if modality in record["transforms"] else None
                    for modality in modalities
                ],
            }
            for name, record in records.items()
            if prepared[name].parent == output
        ],
    }
    datalists.write(content, output / DATALIST)
    if regions is not None:
        with atomic_write(output / REGIONS) as file:
            file.write_text(yaml.safe_dump(mapping_of(regions), sort_keys=False), encoding="utf-8")
    figures = {name: Figures(**record["figures"]) for name, record in records.items()}
    table = [
        (name, modality, figure, f"{value:.6g}", UNITS.get(figure, "1"), lowest, highest)
        for name, of_subject in figures.items()
        for modality, figure, value, lowest, highest in rows(of_subject)
    ]
    write_csv(output / QUALITY, [("subject", "modality", "figure", "value", "unit", "lowest", "highest"), *table])


def _write_page(outcomes: Sequence[Outcome], subjects: int, settings: Settings, output: Path) -> None:
    """Write overview.html; after an interruption, `outcomes` are those of fewer than all `subjects`."""
    prepared = _folders(outcomes, output)
    figures = {name: Figures(**read_record(folder)["figures"]) for name, folder in prepared.items()}
    compared = group.spreads(figures)
    page = render(
        Path(__file__).with_name("overview.html.j2"),
        made=origin_of({}),
        outcomes=outcomes,
        subjects=subjects,
        settings=settings,
        charts=group.charts(compared) if len(figures) >= group.LEAST else [],
        outliers=[spread for spread in compared if spread.outliers],
        pictures=[
            {
                "name": name,
                "figures": group.in_words(figures[name]),
                "file": (folder / picture_file(name)).relative_to(output).as_posix(),
                "flicker": (folder / flicker_file(name)).relative_to(output).as_posix()
                if (folder / flicker_file(name)).exists()
                else None,  # a single modality, or prepared by an earlier release
            }
            for name, folder in prepared.items()
        ],
        shows_files=True,
    )
    with atomic_write(output / PAGE) as file:
        file.write_text(page, encoding="utf-8")
