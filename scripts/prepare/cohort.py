"""Prepare all subjects of a folder, several at a time, and write the tables and the page of the whole."""

import os
import platform
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import SimpleITK as sitk  # noqa: N813, the field's name for it
import yaml
from threadpoolctl import threadpool_limits

from common.data import datalists
from common.data.regions import mapping_of
from common.data.scan_checks import first_line
from common.errors import InputError, show
from common.files import atomic_write, write_csv
from common.pages.templates import render
from common.prepare.figures import FIGURES, Figures, outside, rows, shown
from common.prepare.resampling import labels_on
from common.prepare.subject import Settings, prepare_subject
from common.prepare.volumes import Volume
from scripts.arrays import Array
from scripts.pools import map_in_processes
from scripts.prepare.labels import read_labels
from scripts.prepare.scans import NiftiScan, Subject
from scripts.prepare.store import (
    LABELS,
    alone,
    begin,
    finished,
    folder_of,
    move,
    picture_file,
    read_record,
    scan_file,
    write_subject,
)

__all__ = ["DATALIST", "PAGE", "QUALITY", "Outcome", "prepare_cohort", "run_in_processes"]

DATALIST, QUALITY, PAGE, REGIONS = "datalist.json", "quality.csv", "overview.html", "regions.yaml"
FORMAT = 4  # of the method; another number prepares all subjects anew
VERSIONS = ("antspyx", "deepbet", "SimpleITK", "numpy", "nibabel", "nilearn")


@dataclass(frozen=True)
class Outcome:
    """What became of a subject: prepared now (`is_new`) or before, outside some limits, or failed (`fault`).

    A subject outside its limits is left out of the datalist until the user accepts it. `remarks` are on the choice of
    its DICOM series.
    """

    name: str
    is_new: bool = False
    outside: tuple[str, ...] = ()
    is_accepted: bool = False
    fault: str = ""
    remarks: tuple[str, ...] = ()
    seconds: float = 0.0

    def __str__(self) -> str:
        time_taken = f" in {self.seconds:.0f} s" if self.seconds else ""
        done = f"done{time_taken}" if self.is_new else "done before"
        end = () if not self.outside else ("accepted",) if self.is_accepted else ("left out",)
        return f"{self.name}: {self.fault or '; '.join((done, *self.outside, *end))}"

    @property
    def is_left_out(self) -> bool:
        """Whether the datalist lacks the subject because of its figures."""
        return bool(self.outside) and not self.is_accepted


@dataclass(frozen=True)
class _Order:
    subject: Subject
    settings: Settings
    output: Path
    is_accepted: bool


class _Drawn(NamedTuple):
    labels: Volume
    modality: str


def prepare_cohort(
    subjects: Sequence[Subject],
    settings: Settings,
    output: Path,
    jobs: int,
    accepted: Collection[str] = (),
    array: Array | None = None,
) -> list[Outcome]:
    """Prepare subjects, and write datalist.json, quality.csv and overview.html.

    A subject that was prepared from the same files with the same settings is left as it is. One that fails, or is
    outside its limits and not accepted, is not in datalist.json, and what was prepared lies where no reader looks.

    Args:
        subjects: as `find_subjects` returns them.
        settings: for all of them.
        output: folder, which exists.
        jobs: subjects at a time; each gets its share of the cores.
        accepted: names of subjects whose figures may be outside their limits; so may those of a subject that an earlier
            call was to accept, as long as its files and the settings stay the same.
        array: SLURM jobs that prepare them instead of this machine.

    Raises:
        InputError: another process works in the folder, it cannot be written, or a SLURM job failed.
    """
    with alone(output):
        show(*(f"{subject.name}: {subject.fault}" for subject in subjects if subject.fault))
        orders = [
            _Order(subject, settings, output, subject.name in accepted) for subject in subjects if not subject.fault
        ]
        done = run_in_processes(_prepare, orders, jobs, "subject", array)
        outcomes = {order.subject.name: outcome for order, outcome in zip(orders, done, strict=True)}
        for subject in subjects:
            if subject.fault:
                outcomes[subject.name] = Outcome(subject.name, fault=subject.fault)
            if outcomes[subject.name].fault:  # what was prepared of its files of before
                _leave_out(output, subject.name)
        ordered = [outcomes[subject.name] for subject in subjects]
        regions = next((subject.regions for subject in subjects if subject.labels), None)
        _write_tables(ordered, settings, regions, output)
    return ordered


def run_in_processes(
    work: Callable[[Any], Any], orders: Sequence[Any], jobs: int, unit: str, array: Array | None = None
) -> list[Outcome]:
    """Call `work` for each order in `jobs` processes with a share of the cores each; any failure is an outcome.

    Args:
        work: takes an order, which has `subject.name`, and returns an `Outcome`.
        orders: one a subject.
        jobs: processes.
        unit: of the progress bar.
        array: SLURM jobs instead of the processes, with their `cpus_per_task` each.

    Raises:
        InputError: a SLURM job failed.
    """
    if array is not None:
        done = array.map(partial(_attempt, work, None), orders, unit)
        show(*done)
    else:
        threads = max(1, (os.cpu_count() or 1) // jobs)
        done = map_in_processes(partial(_attempt, work, threads), orders, jobs, unit, on_result=show) if orders else []
    killed = "ended the process, twice; expected memory for a subject per job"
    return [
        Outcome(order.subject.name, fault=killed) if outcome is None else outcome
        for order, outcome in zip(orders, done, strict=True)
    ]


def _attempt(work: Callable[[Any], Outcome], threads: int | None, order: Any) -> Outcome:
    threads = threads or int(os.environ.get("SLURM_CPUS_PER_TASK", "1"))
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        with threadpool_limits(threads):
            return work(order)
    except InputError as error:
        return Outcome(order.subject.name, fault=str(error))
    except MemoryError:
        return Outcome(order.subject.name, fault="out of memory; expected fewer --jobs")
    except Exception as error:  # a subject must not stop the others
        return Outcome(order.subject.name, fault=f"{type(error).__name__}: {first_line(error)}; expected a head scan")


def _prepare(order: _Order) -> Outcome:
    with begin(order.output, order.subject.name):
        return _prepared(order)


def _prepared(order: _Order) -> Outcome:
    subject = order.subject
    start = time.monotonic()
    scans, remarks = subject.scans(order.settings.modalities)
    settings = order.settings.limited_to(scans)
    labels = None if subject.labels is None else NiftiScan(subject.labels)
    digests = {modality: scan.digest() for modality, scan in scans.items()}
    wanted = {
        "format": FORMAT,
        "settings": {**asdict(settings), "modalities": list(settings.modalities)},
        "digests": digests
        | ({} if labels is None else {LABELS: labels.digest()})
        | ({} if subject.brain is None else {"brain": NiftiScan(subject.brain).digest()}),
    }
    for is_out in (False, True):
        record = finished(folder_of(order.output, subject.name, is_out), wanted)
        if record is None:
            continue
        found = tuple(outside(Figures(**record["figures"])))
        is_accepted = order.is_accepted or not is_out
        outcome = Outcome(subject.name, outside=found, is_accepted=is_accepted, remarks=tuple(remarks))
        move(order.output, subject.name, outcome.is_left_out)
        return outcome
    volumes = {modality: scan.read() for modality, scan in scans.items()}
    drawn = None if labels is None else _drawn(labels.file, volumes, settings.reference)
    brain = None if subject.brain is None else read_labels(subject.brain, volumes[settings.reference].grid).array > 0
    prepared = prepare_subject(volumes, settings, brain)
    grid = settings.grid
    brought = None if drawn is None else labels_on(drawn.labels, grid, prepared.matrices[drawn.modality])
    record = {
        "subject": subject.name,
        **wanted,
        "space": settings.space,
        "grid": {"shape": list(grid.shape), "affine": grid.affine.tolist()},
        "sources": {
            modality: {
                **scan.record(),
                "sha256": digests[modality],
                "shape": list(volumes[modality].grid.shape),
                "affine": volumes[modality].affine.tolist(),
            }
            for modality, scan in scans.items()
        },
        "labels": None if labels is None or drawn is None else {**labels.record(), "drawn_on": drawn.modality},
        "remarks": remarks,
        "figures": prepared.figures.record(),
        "versions": {name: version(name) for name in VERSIONS} | {"python": platform.python_version()},
        "seconds": round(time.monotonic() - start, 1),
    }
    outcome = Outcome(
        subject.name,
        is_new=True,
        outside=tuple(outside(prepared.figures)),
        is_accepted=order.is_accepted,
        remarks=tuple(remarks),
        seconds=record["seconds"],
    )
    if outcome.is_left_out:
        _leave_out(order.output, subject.name)
    write_subject(order.output, subject.name, outcome.is_left_out, prepared, settings, record, brought)
    return outcome


def _leave_out(output: Path, subject: str) -> None:
    """Hide what was prepared of a subject earlier from readers, and remove the datalist that may name it."""
    if folder_of(output, subject, is_left_out=False).is_dir():
        (output / DATALIST).unlink(missing_ok=True)  # `_write_tables` writes it again
        move(output, subject, is_left_out=True)


def _drawn(file: Path, volumes: Mapping[str, Volume], reference: str) -> _Drawn:
    """A label map, and the modality on whose grid it lies: the reference, if it does."""
    labels = read_labels(file)
    for modality in sorted(volumes, key=lambda name: name != reference):
        if labels.grid.is_same(volumes[modality].grid):
            return _Drawn(labels, modality)
    shape = " x ".join(map(str, labels.grid.shape))
    raise InputError(f"{file}: {shape} voxels on the grid of no scan; expected that of {' or '.join(volumes)}")


def _write_tables(outcomes: Sequence[Outcome], settings: Settings, regions: str | None, output: Path) -> None:
    prepared = {
        outcome.name: folder_of(output, outcome.name, outcome.is_left_out) for outcome in outcomes if not outcome.fault
    }
    records = {name: read_record(folder) for name, folder in prepared.items()}
    measured = {name: Figures(**record["figures"]) for name, record in records.items()}
    modalities = list(settings.modalities)
    content = {
        "name": output.name,
        "modalities": modalities,
        "label_convention": None,
        "preparation": f"by scripts.prepare: {settings.description}",
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
    table = [
        (name, modality, figure, f"{value:.6g}", FIGURES[figure][0], lowest, highest)
        for name, figures in measured.items()
        for modality, figure, value, lowest, highest in rows(figures)
    ]
    write_csv(output / QUALITY, [("subject", "modality", "figure", "value", "unit", "lowest", "highest"), *table])
    page = render(
        Path(__file__).with_name("overview.html.j2"),
        outcomes=outcomes,
        measured={name: rows(figures) for name, figures in measured.items()},
        settings=settings,
        space=settings.space,
        meanings=FIGURES,
        shown=shown,
        pictures={
            name: (folder / picture_file(name)).relative_to(output).as_posix() for name, folder in prepared.items()
        },
        shows_files=True,
    )
    with atomic_write(output / PAGE) as file:
        file.write_text(page, encoding="utf-8")
