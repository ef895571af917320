"""Prepare the raw scans of all subjects, each in a folder of its own, and resample label maps to raw grids."""

import os
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813, the field's name for it
from threadpoolctl import threadpool_limits

from common import made
from common.data.names import SPELLINGS, SUFFIX
from common.data.volumes import MADE_UP, check_copies, is_made_up, write_volume
from common.errors import ArgumentError, InputError, choice, is_disk_full, one_line, shortened, show
from common.files import claimed, digest, move_aside, read_json, write_json
from scripts.datalists.files import write
from scripts.pages.templates import write_page
from scripts.pools import map_in_processes
from scripts.prepare import volumes
from scripts.prepare.picture import draw
from scripts.prepare.settings import RECORD, Settings, Subject, find_subjects
from scripts.prepare.subject import Figures, prepare_subject

DATALIST, PAGE = "datalist.json", "overview.html"
LEFT_OUT = ".left_out"  # folder in the output for subjects left out or unfinished; readers skip hidden folders
LABELS, BRAIN = "seg", "brain"  # label maps (suffix as in BraTS) and brain masks, in digests
MASK = "brain_mask"  # ending of brain masks, which readers of scans ignore
FORMAT = 13  # version of the method; a new number prepares all subjects again
COMPRESSION = 1  # level; 6 takes five times as long and saves a tenth
VERSIONS = ("antspyx", "deepbet", "SimpleITK", "numpy", "nibabel", "nilearn")
SCHEMA = {"type": "object", "required": ["reference", "sources", "transforms", "figures", "grid"]}


@dataclass(frozen=True)
class Outcome:
    """The outcome of preparing a subject or resampling a label map.

    A subject with quality figures outside their limits is left out of the datalist until the user includes it.
    """

    name: str  # subject
    is_new: bool = False  # done now, and not by an earlier command
    figures: Figures | None = None
    is_included: bool = False  # by the user
    fault: str = ""  # reason for a failure
    remarks: Sequence[str] = ()  # on orientations and skull stripping

    @property
    def outside(self) -> list[str]:
        """The quality figures outside their limits, in words."""
        return [str(figure) for figure in self.figures.outside()] if self.figures else []

    @property
    def is_left_out(self) -> bool:
        return bool(self.outside) and not self.is_included

    @property
    def is_usable(self) -> bool:
        return not self.fault and not self.is_left_out

    def __str__(self) -> str:
        end = [*self.outside, "included" if self.is_included else "left out"] if self.outside else []
        return f"{self.name}: {self.fault or '; '.join(['done' if self.is_new else 'done before', *end])}"


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
    """Prepare the subjects of a folder, write datalist and overview page, and print a summary.

    The options are those of `python -m scripts.prepare`. Subjects with unchanged files and settings are not prepared
    again. Those that fail or are left out are not in the datalist, and their folders are hidden.
    """
    keeps_missing = choice("missing", missing, {"refuse": False, "keep": True})
    masks = settings.brain if "*" in settings.brain else None
    subjects = find_subjects(root, settings.modalities, patterns or {}, labels, keeps_missing, masks)
    names = [subject.name for subject in subjects]
    included = {name for name in str(include or "").split(",") if name}
    if unknown := included - {*names}:
        raise ArgumentError("include", include, f"no such subject: {min(unknown)}", f"some of {shortened(names, 12)}")
    with claimed("output", output):
        if not (output / made.MADE).exists() and any(not path.name.startswith(".") for path in output.iterdir()):
            raise InputError(f"{output}: not written by scripts.prepare (no {made.MADE}); expected a new --output")
        origin = made.origin_of({})
        made.Results(output, origin | {"settings": {"preparation": settings.describe()}}).begin()
        work = {it.name: partial(prepare_one, it, settings, output, it.name in included) for it in subjects}
        outcomes = run_in_processes(work, jobs, "subject")
        for outcome in outcomes:
            if outcome.fault:
                hide(output, outcome.name)  # earlier results are not current
        write(_datalist(outcomes, settings, output), output / DATALIST)
        content: Any = {"outcomes": outcomes, "settings": settings, "hidden": LEFT_OUT, "shows_files": True}
        write_page(output / PAGE, Path(__file__).with_name("overview.html.j2"), made=origin, **content)
        unlisted = sorted({file.parent.name for file in output.glob(f"*/{RECORD}")} - {*names})
        if unlisted:
            show(f"warning: {DATALIST} lacks subjects of earlier runs in {output}: {shortened(unlisted)}", error=True)
    _report(outcomes, f"prepared: {output / PAGE} (look at it: the contrast is not checked)")
    return outcomes


def prepare_one(subject: Subject, settings: Settings, output: Path, is_included: bool = False) -> Outcome:
    """Prepare a subject from `find_subjects`, unless its files and settings are unchanged; return the outcome.

    The work is done in the hidden folder, so that no reader finds unfinished results. A subject outside its limits
    stays there, unless it `is_included` now or was by an earlier command.
    """
    if subject.fault:
        raise InputError(subject.fault)
    settings = replace(settings, modalities=tuple(subject.files))
    files = {**subject.files, LABELS: subject.labels, BRAIN: subject.brain}
    digests = {kind: digest(file) for kind, file in files.items() if file is not None}
    stated = asdict(settings) | {"modalities": list(settings.modalities)}
    wanted: dict[str, Any] = {"subject": subject.name, "format": FORMAT, "settings": stated, "digests": digests}
    was_shown = (output / subject.name).exists()
    folder = hide(output, subject.name)
    record = read_record(folder) if (folder / RECORD).is_file() else {}
    is_new = not wanted.items() <= record.items()
    if is_new:
        record = wanted | _prepare(subject, settings, folder)
        write_json(folder / RECORD, record)
    is_included |= was_shown and not is_new
    outcome = Outcome(subject.name, is_new, Figures(**record["figures"]), is_included, remarks=record["remarks"])
    if not outcome.is_left_out:
        folder.rename(output / subject.name)
    return outcome


def hide(output: Path, subject: str) -> Path:
    """Move a subject's results, if any, to the hidden folder; return their path."""
    shown, hidden = output / subject, output / LEFT_OUT / subject
    hidden.parent.mkdir(exist_ok=True)
    if shown.exists():
        shutil.rmtree(hidden, ignore_errors=True)
        shown.rename(hidden)
    return hidden


def _prepare(subject: Subject, settings: Settings, folder: Path) -> dict[str, Any]:
    """Prepare a subject into a folder in place of earlier results, but keep the user's own files; return a record."""
    name, reference, scans = subject.name, settings.reference, subject.files
    raw = {modality: volumes.read_volume(file) for modality, file in scans.items()}
    check_copies({modality: volume.array for modality, volume in raw.items()})
    labels, brain, drawn_on = None, None, [reference]
    if subject.labels is not None:  # on the grid of any modality, the reference first
        labels = volumes.read_labels(subject.labels)
        drawn_on = [kind for kind in (reference, *scans) if labels.grid.is_same(raw[kind].grid)]
        if not drawn_on:
            raise InputError(subject.labels, "not on the grid of a scan", f"the grid of {' or '.join(scans)}")
    if subject.brain is not None:
        brain = volumes.read_labels(subject.brain, raw[reference].grid, reference).array > 0
        if not brain.any():
            raise InputError(f"{subject.brain}: no voxel above 0; expected a brain mask")
    remarks = volumes.orientation_remarks(*filter(None, [*scans.values(), subject.labels, subject.brain]))
    prepared = prepare_subject(raw, settings, brain)
    remarks += [f"{reference} is already skull-stripped: its brain was used"] if prepared.is_stripped else []
    arrays = {modality: volume.array for modality, volume in prepared.images.items()}
    arrays[MASK] = prepared.brain.astype(np.uint8)
    if labels is not None:
        arrays[LABELS] = volumes.labels_on(labels, settings.grid, prepared.matrices[drawn_on[0]]).array
    is_synthetic = all(is_made_up(file) for file in scans.values())
    (folder / RECORD).unlink(missing_ok=True)  # results without a record are unfinished
    own = {f"{name}_{kind}.nii.gz" for kind in (*SPELLINGS, *arrays)}
    for earlier in [file for file in folder.glob("*") if SUFFIX.search(file.name)]:
        if earlier.name in own:
            earlier.unlink()
        else:
            move_aside(earlier)
            show(f"{name}: {earlier.name} was renamed: it may be drawn by hand, on the earlier result")
    for kind, array in arrays.items():
        file, mark = folder / f"{name}_{kind}.nii.gz", MADE_UP if is_synthetic else b""
        write_volume(file, array, settings.grid.affine, settings.target.code, COMPRESSION, description=mark)
    draw(prepared, folder / f"{name}.png", name, arrays.get(LABELS))
    return {
        "reference": reference,
        "preparation": settings.describe(prepared.is_stripped),
        "grid": settings.grid.record(),
        "sources": {kind: volumes.source_record(file, raw[kind].grid) for kind, file in scans.items()},
        "transforms": {kind: {"matrix": matrix.tolist()} for kind, matrix in prepared.matrices.items()},
        "made_up": is_synthetic,
        "remarks": remarks,
        "figures": asdict(prepared.figures),
        "versions": {package: version(package) for package in VERSIONS} | {"python": platform.python_version()},
    }


def read_record(folder: Path) -> dict[str, Any]:
    """Read the record of a prepared subject; refuse a missing or invalid record."""
    return dict(read_json(folder / RECORD, "the record of a prepared subject", SCHEMA))


def _datalist(outcomes: Sequence[Outcome], settings: Settings, output: Path) -> dict[str, Any]:
    """Return a datalist of the usable subjects, for testing."""
    entries = []
    for outcome in outcomes:
        if outcome.is_usable and outcome.figures:
            prefix, available = f"{outcome.name}/{outcome.name}", outcome.figures.modalities
            files = [f"{prefix}_{name}.nii.gz" if name in available else None for name in settings.modalities]
            entries.append({"subject": outcome.name, "image": files})
    about: dict[str, Any] = {"name": output.resolve().name or "prepared", "modalities": list(settings.modalities)}
    about |= {"label_convention": None, "preparation": f"by scripts.prepare: {settings.describe()}"}
    return about | {"space": settings.like, "training": [], "validation": [], "testing": entries}


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


def send_back(file: Path, name: str, prepared: Path, output: Path, modality: str | None) -> Outcome:
    """Resample a prepared subject's label map to the grid of a raw scan, and write OUTPUT/SUBJECT.nii.gz.

    `modality` selects the raw scan (default: the reference). Raises InputError if the subject was not prepared, the
    label map is not on the prepared grid, the raw scan has changed, or different software wrote the target.
    """
    record = read_record(prepared / name)
    chosen = modality or record["reference"]
    source = choice("modality", chosen, record["sources"])
    target = output / f"{name}.nii.gz"
    if target.exists() and not volumes.is_label_map(target):
        raise InputError(f"{target}: not written by this software; expected a different --output")
    labels = volumes.read_labels(file, volumes.Grid.of(record["grid"]))
    if Path(source["file"]).is_file() and digest(source["file"]) != source["sha256"]:
        raise InputError(f"{source['file']}: changed since it was prepared; restore it, or run scripts.prepare again")
    back = np.linalg.inv(record["transforms"][chosen]["matrix"])
    resampled = volumes.labels_on(labels, volumes.Grid.of(source), back).array
    write_volume(target, resampled, bytes.fromhex(source["forms"]), is_label=True)
    return Outcome(name, is_new=True, remarks=volumes.orientation_remarks(file, target))


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
