"""Prepare a subject's folder atomically, and resample label maps to the grids of raw scans."""

import os
import platform
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813, the field's name for it

from common.data.scan_checks import check_copies, orientation_problem, read_scan
from common.data.volumes import MADE_UP, is_label_map, is_made_up, open_volume, write_volume
from common.errors import InputError
from common.files import digest, read_json, write_json
from scripts.prepare.figures import Figures, may_be_right, outside
from scripts.prepare.frames import to_transform
from scripts.prepare.labels import read_labels
from scripts.prepare.outcome import RECORD, Outcome
from scripts.prepare.picture import draw, draw_flicker
from scripts.prepare.resampling import labels_on, resample
from scripts.prepare.scans import NiftiScan, Subject
from scripts.prepare.settings import Settings
from scripts.prepare.subject import Prepared, prepare_subject
from scripts.prepare.volumes import Grid, Volume, check_grid, check_transform, read_volume

LEFT_OUT = ".left_out"  # folder in the output for subjects left out; readers skip hidden folders
WORK = ".prepare"  # folder in the output for unfinished work
LABELS, BRAIN = "seg", "brain"  # label maps (suffix as in BraTS) and brain masks, in digests
FORMAT = 12  # version of the method; a new number prepares all subjects again
STRIPPED = "{} is already skull-stripped: its brain was used"
COMPRESSION = 1  # level; 6 takes five times as long and saves a tenth
VERSIONS = ("antspyx", "deepbet", "SimpleITK", "numpy", "nibabel", "nilearn")
SCHEMA = {"type": "object", "required": ["reference", "sources", "transforms", "figures", "grid"]}


def scan_file(subject: str, modality: str) -> str:
    """Return the file name of a prepared scan."""
    return f"{subject}_{modality}.nii.gz"


def mask_file(subject: str) -> str:
    """Return the file name of the brain mask; `common.inference.find_cases` ignores this ending."""
    return f"{subject}_brain_mask.nii.gz"


def picture_file(subject: str) -> str:
    """Return the file name of the picture of all prepared scans."""
    return f"{subject}.png"


def flicker_file(subject: str) -> str:
    """Return the file name of the picture that alternates between the reference and the registered modalities."""
    return f"{subject}_flicker.png"


def folder_of(output: Path, subject: str, is_left_out: bool) -> Path:
    """Return a subject's folder; that of a left-out subject is in the hidden folder `LEFT_OUT`."""
    return output / LEFT_OUT / subject if is_left_out else output / subject


def prepare_one(subject: Subject, settings: Settings, output: Path, is_accepted: bool = False) -> Outcome:
    """Prepare a subject from `find_subjects`, unless its files and settings are unchanged; return the outcome.

    `is_accepted`: its quality figures may be outside their limits. Raises InputError if a scan cannot be prepared or
    the folder cannot be written.
    """
    start = time.monotonic()
    scans = subject.scans(settings.modalities)
    settings = replace(settings, modalities=tuple(name for name in settings.modalities if name in scans))
    masks = {name: NiftiScan(file) for name, file in ((LABELS, subject.labels), (BRAIN, subject.brain)) if file}
    digests = {name: scan.digest() for name, scan in {**scans, **masks}.items()}
    wanted: dict[str, Any] = {
        "subject": subject.name,
        "format": FORMAT,
        "settings": {**asdict(settings), "modalities": list(settings.modalities)},
        "digests": digests,
    }
    remarks = _remarks(*(scan.file for scan in {**scans, **masks}.values()))
    made = [mask_file(subject.name), *(scan_file(subject.name, name) for name in digests if name != BRAIN)]
    for is_out in (False, True):
        folder = folder_of(output, subject.name, is_out)
        if (earlier := _earlier(folder, made, wanted)) is not None:
            outcome = _outcome(earlier, is_accepted or not is_out)
            _move(folder, output, subject.name, outcome.is_left_out)
            return outcome
    volumes = {modality: scan.read() for modality, scan in scans.items()}
    check_copies({modality: volume.array for modality, volume in volumes.items()})
    labels = None if subject.labels is None else read_labels(subject.labels)
    drawn_on = "" if labels is None else _drawn_on(str(subject.labels), labels, volumes, settings.reference)
    brain = None
    if subject.brain is not None:
        brain = read_labels(subject.brain, volumes[settings.reference].grid, settings.reference).array > 0
        if not brain.any():
            raise InputError(f"{subject.brain}: no voxel above 0; expected a brain mask")
    prepared = prepare_subject(volumes, settings, brain)
    remarks += [STRIPPED.format(settings.reference)] if prepared.is_stripped else []
    resampled = None if labels is None else labels_on(labels, settings.grid, prepared.matrices[drawn_on])
    record = {
        **wanted,
        "reference": settings.reference,
        "preparation": settings.describe(prepared.is_stripped),
        "grid": _grid_record(settings.grid),
        "sources": {
            modality: {**scan.record(), "sha256": digests[modality], **_grid_record(volumes[modality].grid)}
            for modality, scan in scans.items()
        },
        "made_up": all(is_made_up(scan.file) for scan in scans.values()),
        "labels": None if labels is None else {**masks[LABELS].record(), "drawn_on": drawn_on},
        "remarks": remarks,
        "figures": asdict(prepared.figures),
        "cause": prepared.cause,
        "versions": {name: version(name) for name in VERSIONS} | {"python": platform.python_version()},
        "seconds": round(time.monotonic() - start, 1),
    }
    outcome = replace(_outcome(record, is_accepted), is_new=True, seconds=record["seconds"])
    new = output / WORK / f"{subject.name}.{os.getpid()}"
    try:
        new.mkdir(parents=True)
        _write(new, subject.name, prepared, settings, record, resampled)
        _move(new, output, subject.name, outcome.is_left_out)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return outcome


def _outcome(record: Mapping[str, Any], is_accepted: bool) -> Outcome:
    """Return the outcome of an earlier run, from the subject's record."""
    figures = Figures(**record["figures"])
    return Outcome(
        record["subject"],
        outside=tuple(outside(figures, record.get("cause", ""))),
        is_accepted=is_accepted,
        may_be_right=may_be_right(figures),
        remarks=tuple(record.get("remarks", ())),
    )


def _remarks(*files: Path) -> list[str]:
    """Return a line for each file with an ambiguous orientation in its header."""
    problems = [orientation_problem(str(file), open_volume(file)) for file in files]
    return [str(problem) for problem in problems if problem]


def _grid_record(grid: Grid) -> dict[str, Any]:
    return {"shape": list(grid.shape), "affine": grid.affine.tolist()}


def _grid_of(record: Mapping[str, Any]) -> Grid:
    x, y, z = record["shape"]
    return Grid((x, y, z), np.array(record["affine"], np.float64))


def _drawn_on(file: str, labels: Volume, volumes: Mapping[str, Volume], reference: str) -> str:
    """Return the modality that shares a label map's grid, the reference first; raise an InputError if there is none."""
    for modality in sorted(volumes, key=lambda name: name != reference):
        if labels.grid.is_same(volumes[modality].grid):
            return modality
    shape = " x ".join(map(str, labels.grid.shape))
    raise InputError(f"{file}: {shape} voxels, not on the grid of a scan; expected the grid of {' or '.join(volumes)}")


def _write(
    folder: Path, name: str, prepared: Prepared, settings: Settings, record: Mapping[str, Any], labels: Volume | None
) -> None:
    volumes = {scan_file(name, modality): volume.array for modality, volume in prepared.images.items()}
    volumes[mask_file(name)] = prepared.brain.astype(np.uint8)
    if labels is not None:
        volumes[scan_file(name, LABELS)] = labels.array
    code, description = settings.target.code, MADE_UP if record["made_up"] else b""
    for file, array in volumes.items():
        write_volume(folder / file, array, settings.grid.affine, code, COMPRESSION, description=description)
    transforms = {}
    for modality, matrix in prepared.matrices.items():
        transforms[modality] = {"file": f"{name}_{modality}.tfm", "matrix": matrix.tolist()}
        sitk.WriteTransform(to_transform(matrix), str(folder / f"{name}_{modality}.tfm"))
    draw(prepared, folder / picture_file(name), name, None if labels is None else labels.array)
    if len(prepared.heads) > 1:
        draw_flicker(prepared, settings.reference, folder / flicker_file(name), name)
    write_json(folder / RECORD, {**record, "transforms": transforms})


def leave_out(output: Path, subject: str) -> None:
    """Move a subject's earlier results, if any, to the hidden folder `LEFT_OUT`."""
    if (output / subject).is_dir():
        _move(output / subject, output, subject, is_left_out=True)


def check_made_here(folder: Path) -> None:
    """Raise an InputError for a folder that is neither empty nor written by scripts.prepare."""
    if folder.exists() and not (folder / RECORD).is_file() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(f"{folder}: not written by scripts.prepare (no {RECORD}); expected a different --output")


def _move(source: Path, output: Path, subject: str, is_left_out: bool) -> None:
    """Move a subject's folder to its path by `folder_of`; replace earlier results, but keep the user's own files."""
    target = folder_of(output, subject, is_left_out)
    made = re.compile(rf"{re.escape(subject)}(_\w+\.(nii\.gz|tfm)|(_flicker)?\.png)|{re.escape(RECORD)}")
    target.parent.mkdir(exist_ok=True)
    for earlier in (folder_of(output, subject, is_out) for is_out in (False, True)):
        if earlier != source and earlier.exists():
            doomed = output / WORK / f"{subject}.earlier.{os.getpid()}"  # hidden from readers before it is deleted
            doomed.parent.mkdir(exist_ok=True)
            earlier.rename(doomed)
            if doomed.is_symlink():  # made by the user; its target stays
                doomed.unlink()
            else:
                for path in doomed.iterdir():
                    if not made.fullmatch(path.name) and not (source / path.name).exists():
                        path.rename(source / path.name)  # the user's files, such as notes
                shutil.rmtree(doomed)
    if source != target:
        source.rename(target)


def _earlier(folder: Path, files: Sequence[str], wanted: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the record of a subject's earlier results; None if it differs from `wanted` or a file is damaged."""
    try:
        record = read_record(folder)
        if any(record.get(key) != value for key, value in wanted.items()):
            return None
        for file in files:
            read_scan(folder / file)
    except InputError:  # missing or damaged
        return None
    return record


def read_record(folder: Path) -> dict[str, Any]:
    """Read the record of a prepared subject; refuse a missing or invalid record."""
    path = folder / RECORD
    record: dict[str, Any] = read_json(path, "the record of a prepared subject", SCHEMA)
    for name, grid in (("grid", record["grid"]), *record["sources"].items()):
        check_grid(_grid_of(grid), f"{path}: {name}")
    for name, transform in record["transforms"].items():
        check_transform(np.array(transform["matrix"]), f"{path}: the matrix of {name}")
    return record


def raw_scan(prepared: Path, name: str, modality: str) -> Volume:
    """Return a raw scan: read from its file or, for a moved file, resampled from the prepared scan."""
    record = read_record(prepared / name)
    source = record["sources"][modality]
    if Path(file := source.get("file", "")).is_file():
        return read_volume(Path(file))
    _, voxels = read_scan(prepared / name / scan_file(name, modality), np.float32)
    back = np.linalg.inv(record["transforms"][modality]["matrix"])
    return resample(Volume(voxels, _grid_of(record["grid"]).affine), _grid_of(source), back)


def send_back(file: Path, name: str, prepared: Path, output: Path, modality: str | None) -> Outcome:
    """Resample a prepared subject's label map to the grid of a raw scan, and write OUTPUT/SUBJECT.nii.gz.

    `modality` selects the raw scan (default: the reference). Raises InputError if the subject was not prepared, the
    label map is not on the prepared grid, the raw scan has changed, or different software wrote the target.
    """
    if not (prepared / name).is_dir():
        raise InputError(f"no such subject in {prepared}; expected the label map of a prepared subject")
    record = read_record(prepared / name)
    chosen = modality or record["reference"]
    if chosen not in (names := [name for name in record["transforms"] if name in record["sources"]]):
        raise InputError(f"{chosen}: not prepared; expected one of {', '.join(names)}")
    target = output / f"{name}.nii.gz"
    if target.exists() and not is_label_map(target):
        raise InputError(f"{target}: not written by this software; expected a different --output")
    labels = read_labels(file, _grid_of(record["grid"]))
    source = record["sources"][chosen]
    with suppress(OSError):  # a scan that has moved cannot be checked
        if (scan := source.get("file")) and digest(scan) != source.get("sha256"):
            raise InputError(f"{scan}: changed since it was prepared; restore it, or run scripts.prepare again")
    raw, forms = _grid_of(source), bytes.fromhex(source.get("forms", ""))
    resampled = labels_on(labels, raw, np.linalg.inv(record["transforms"][chosen]["matrix"]))
    write_volume(target, resampled.array, forms or raw.affine, is_label=True)
    return Outcome(name, is_new=True, remarks=tuple(_remarks(file, target)))
