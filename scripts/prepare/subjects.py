"""Prepare a subject's folder atomically, and resample label maps to the grids of raw scans."""

import platform
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813, the field's name for it

from common.data.scan_checks import check_copies, orientation_problem
from common.data.volumes import MADE_UP, forms_of, is_label_map, is_made_up, open_volume, write_volume
from common.errors import InputError
from common.files import digest, read_json, write_json
from scripts.prepare.figures import Figures
from scripts.prepare.picture import draw
from scripts.prepare.resampling import labels_on, to_transform
from scripts.prepare.scans import Subject
from scripts.prepare.settings import RECORD, Settings
from scripts.prepare.subject import Prepared, prepare_subject
from scripts.prepare.volumes import Grid, Volume, read_labels, read_volume

LEFT_OUT = ".left_out"  # folder in the output for subjects left out; readers skip hidden folders
WORK = ".prepare"  # folder in the output for unfinished work
LABELS, BRAIN = "seg", "brain"  # label maps (suffix as in BraTS) and brain masks, in digests
MASK = "brain_mask"  # ending of brain masks, which readers of scans ignore
FORMAT = 12  # version of the method; a new number prepares all subjects again
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
    remarks: tuple[str, ...] = ()  # on orientations and skull stripping

    @property
    def outside(self) -> list[str]:
        """The quality figures outside their limits, in words."""
        return [str(row) for row in self.figures.outside()] if self.figures else []

    @property
    def is_left_out(self) -> bool:
        return bool(self.outside) and not self.is_included

    @property
    def is_usable(self) -> bool:
        return not self.fault and not self.is_left_out

    def __str__(self) -> str:
        end = [*self.outside, "included" if self.is_included else "left out"] if self.outside else []
        return f"{self.name}: {self.fault or '; '.join(['done' if self.is_new else 'done before', *end])}"


def scan_file(subject: str, modality: str) -> str:
    """Return the file name of a prepared scan."""
    return f"{subject}_{modality}.nii.gz"


def folder_of(output: Path, subject: str, is_left_out: bool) -> Path:
    """Return a subject's folder; that of a left-out subject is in the hidden folder `LEFT_OUT`."""
    return output / LEFT_OUT / subject if is_left_out else output / subject


def prepare_one(subject: Subject, settings: Settings, output: Path, is_included: bool = False) -> Outcome:
    """Prepare a subject from `find_subjects`, unless its files and settings are unchanged; return the outcome.

    `is_included`: its quality figures may be outside their limits. Raises InputError if a scan cannot be prepared or
    the folder cannot be written.
    """
    if subject.fault:
        raise InputError(subject.fault)
    start = time.monotonic()
    scans = subject.files
    settings = replace(settings, modalities=tuple(scans))
    files = {**scans, LABELS: subject.labels, BRAIN: subject.brain}
    digests = {name: digest(file) for name, file in files.items() if file is not None}
    wanted: dict[str, Any] = {
        "subject": subject.name,
        "format": FORMAT,
        "settings": {**asdict(settings), "modalities": list(settings.modalities)},
        "digests": digests,
    }
    for is_out in (False, True):
        folder = folder_of(output, subject.name, is_out)
        if (earlier := _earlier(folder, wanted)) is not None:
            figures, remarks = Figures(**earlier["figures"]), earlier["remarks"]
            outcome = Outcome(subject.name, False, figures, is_included or not is_out, remarks=tuple(remarks))
            if outcome.is_left_out != is_out:
                move(folder, output, subject.name, outcome.is_left_out)
            return outcome
    volumes = {modality: read_volume(file) for modality, file in scans.items()}
    check_copies({modality: volume.array for modality, volume in volumes.items()})
    labels = None if subject.labels is None else read_labels(subject.labels)
    drawn_on = settings.reference
    if labels is not None:  # on the grid of any modality, the reference first
        drawn_on = next((name for name in [drawn_on, *scans] if labels.grid.is_same(volumes[name].grid)), "")
        if not drawn_on:
            shape = " x ".join(map(str, labels.grid.shape))
            expected = f"the grid of {' or '.join(scans)}"
            raise InputError(subject.labels, f"{shape} voxels, not on the grid of a scan", expected)
    brain = None
    if subject.brain is not None:
        brain = read_labels(subject.brain, volumes[settings.reference].grid, settings.reference).array > 0
        if not brain.any():
            raise InputError(f"{subject.brain}: no voxel above 0; expected a brain mask")
    remarks = _remarks(*(file for file in files.values() if file is not None))
    prepared = prepare_subject(volumes, settings, brain)
    remarks += [f"{settings.reference} is already skull-stripped: its brain was used"] if prepared.is_stripped else []
    resampled = None if labels is None else labels_on(labels, settings.grid, prepared.matrices[drawn_on])
    record = {
        **wanted,
        "reference": settings.reference,
        "preparation": settings.describe(prepared.is_stripped),
        "grid": _grid_record(settings.grid),
        "sources": {
            modality: {**source_record(file), "sha256": digests[modality], **_grid_record(volumes[modality].grid)}
            for modality, file in scans.items()
        },
        "made_up": all(is_made_up(file) for file in scans.values()),
        "remarks": remarks,
        "figures": asdict(prepared.figures),
        "versions": {name: version(name) for name in VERSIONS} | {"python": platform.python_version()},
        "seconds": round(time.monotonic() - start, 1),
    }
    outcome = Outcome(subject.name, True, prepared.figures, is_included, remarks=tuple(remarks))
    new = output / WORK / subject.name
    new.mkdir(parents=True, exist_ok=True)
    _write(new, subject.name, prepared, settings, record, resampled)
    move(new, output, subject.name, outcome.is_left_out)
    return outcome


def _earlier(folder: Path, wanted: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the record of a subject's earlier results; None if it differs from `wanted` or a file is missing."""
    if not (folder / RECORD).is_file():
        return None
    record = read_record(folder)
    names = [scan_file(wanted["subject"], MASK)]
    names += [scan_file(wanted["subject"], name) for name in wanted["digests"] if name != BRAIN]
    is_same = all(record.get(key) == value for key, value in wanted.items())
    return record if is_same and all((folder / name).is_file() for name in names) else None


def _remarks(*files: Path) -> list[str]:
    """Return a line for each file with an ambiguous orientation in its header."""
    problems = [orientation_problem(str(file), open_volume(file)) for file in files]
    return [str(problem) for problem in problems if problem]


def source_record(file: Path) -> dict[str, Any]:
    """Return a file's path, and the header bytes that state its grid, in hexadecimal digits."""
    return {"file": str(file.absolute()), "forms": forms_of(open_volume(file)).hex()}


def _grid_record(grid: Grid) -> dict[str, Any]:
    return {"shape": list(grid.shape), "affine": grid.affine.tolist()}


def _grid_of(record: Mapping[str, Any]) -> Grid:
    x, y, z = record["shape"]
    return Grid((x, y, z), np.array(record["affine"], np.float64))


def _write(
    folder: Path, name: str, prepared: Prepared, settings: Settings, record: Mapping[str, Any], labels: Volume | None
) -> None:
    volumes = {scan_file(name, modality): volume.array for modality, volume in prepared.images.items()}
    volumes[scan_file(name, MASK)] = prepared.brain.astype(np.uint8)
    if labels is not None:
        volumes[scan_file(name, LABELS)] = labels.array
    code, description = settings.target.code, MADE_UP if record["made_up"] else b""
    for file, array in volumes.items():
        write_volume(folder / file, array, settings.grid.affine, code, COMPRESSION, description=description)
    transforms = {}
    for modality, matrix in prepared.matrices.items():
        transforms[modality] = {"file": f"{name}_{modality}.tfm", "matrix": matrix.tolist()}
        sitk.WriteTransform(to_transform(matrix), str(folder / f"{name}_{modality}.tfm"))
    draw(prepared, folder / f"{name}.png", name, None if labels is None else labels.array)
    write_json(folder / RECORD, {**record, "transforms": transforms})


def move(source: Path, output: Path, subject: str, is_left_out: bool) -> None:
    """Move a subject's folder to its path by `folder_of`; replace earlier results, but keep the user's own files."""
    made = re.compile(rf"{re.escape(subject)}(_\w+\.(nii\.gz|tfm|png)|\.png)|{re.escape(RECORD)}")
    for earlier in (output / subject, output / LEFT_OUT / subject):
        if earlier != source and earlier.exists():
            for path in earlier.iterdir():
                if not made.fullmatch(path.name):
                    path.rename(source / path.name)
            shutil.rmtree(earlier)
    target = folder_of(output, subject, is_left_out)
    target.parent.mkdir(exist_ok=True)
    source.rename(target)


def read_record(folder: Path) -> dict[str, Any]:
    """Read the record of a prepared subject; refuse a missing or invalid record."""
    record: dict[str, Any] = read_json(folder / RECORD, "the record of a prepared subject", SCHEMA)
    return record


def send_back(file: Path, name: str, prepared: Path, output: Path, modality: str | None) -> Outcome:
    """Resample a prepared subject's label map to the grid of a raw scan, and write OUTPUT/SUBJECT.nii.gz.

    `modality` selects the raw scan (default: the reference). Raises InputError if the subject was not prepared, the
    label map is not on the prepared grid, the raw scan has changed, or different software wrote the target.
    """
    if not (prepared / name).is_dir():
        raise InputError(f"no such subject in {prepared}; expected the label map of a prepared subject")
    record = read_record(prepared / name)
    chosen = modality or record["reference"]
    if chosen not in record["sources"]:
        raise InputError(f"{chosen}: not prepared; expected one of {', '.join(record['sources'])}")
    target = output / f"{name}.nii.gz"
    if target.exists() and not is_label_map(target):
        raise InputError(f"{target}: not written by this software; expected a different --output")
    labels = read_labels(file, _grid_of(record["grid"]))
    source = record["sources"][chosen]
    if Path(source["file"]).is_file() and digest(source["file"]) != source["sha256"]:
        raise InputError(f"{source['file']}: changed since it was prepared; restore it, or run scripts.prepare again")
    resampled = labels_on(labels, _grid_of(source), np.linalg.inv(record["transforms"][chosen]["matrix"]))
    write_volume(target, resampled.array, bytes.fromhex(source["forms"]), is_label=True)
    return Outcome(name, is_new=True, remarks=tuple(_remarks(file, target)))
