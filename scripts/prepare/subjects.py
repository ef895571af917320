"""Prepare a subject's folder atomically, and resample label maps to the grids of raw scans."""

import platform
import shutil
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
from scripts.prepare.subject import prepare_subject
from scripts.prepare.volumes import Grid, read_labels, read_volume

LEFT_OUT = ".left_out"  # folder in the output for subjects left out or unfinished; readers skip hidden folders
LABELS, BRAIN = "seg", "brain"  # label maps (suffix as in BraTS) and brain masks, in digests
MASK = "brain_mask"  # ending of brain masks, which readers of scans ignore
SUFFIXES = (".gz", ".tfm", ".png", ".part")  # of the files of a prepared subject, which begin with its name
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


def prepare_one(subject: Subject, settings: Settings, output: Path, is_included: bool = False) -> Outcome:
    """Prepare a subject from `find_subjects`, unless its files and settings are unchanged; return the outcome.

    `is_included`: its quality figures may be outside their limits. The work is done in the hidden folder, so that no
    reader finds unfinished results. Raises InputError if a scan cannot be prepared or the folder cannot be written.
    """
    if subject.fault:
        raise InputError(subject.fault)
    name = subject.name
    settings = replace(settings, modalities=tuple(subject.files))
    files = {**subject.files, LABELS: subject.labels, BRAIN: subject.brain}
    wanted: dict[str, Any] = {
        "subject": name,
        "format": FORMAT,
        "settings": {**asdict(settings), "modalities": list(settings.modalities)},
        "digests": {kind: digest(file) for kind, file in files.items() if file is not None},
    }
    was_shown = (output / name).exists()
    folder = hide(output, name)
    record = read_record(folder) if (folder / RECORD).is_file() else {}
    expected = [scan_file(name, kind) for kind in (*wanted["digests"].keys() - {BRAIN}, MASK)]
    is_complete = all((folder / file).is_file() for file in expected)
    is_new = not is_complete or any(record.get(key) != value for key, value in wanted.items())
    if is_new:
        record = _prepare(subject, settings, folder, wanted)
    figures, remarks = Figures(**record["figures"]), tuple(record["remarks"])
    outcome = Outcome(name, is_new, figures, is_included or (was_shown and not is_new), remarks=remarks)
    if not outcome.is_left_out:
        folder.rename(output / name)
    return outcome


def hide(output: Path, subject: str) -> Path:
    """Move a subject's results, if any, to the hidden folder; return their path."""
    shown, hidden = output / subject, output / LEFT_OUT / subject
    hidden.parent.mkdir(exist_ok=True)
    if shown.exists():
        shutil.rmtree(hidden, ignore_errors=True)
        shown.rename(hidden)
    return hidden


def _prepare(subject: Subject, settings: Settings, folder: Path, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Prepare a subject into a folder in place of earlier results, but keep the user's own files; return the record."""
    name, reference, scans = subject.name, settings.reference, subject.files
    volumes = {modality: read_volume(file) for modality, file in scans.items()}
    check_copies({modality: volume.array for modality, volume in volumes.items()})
    labels, brain, drawn_on = None, None, reference
    if subject.labels is not None:  # on the grid of any modality, the reference first
        labels = read_labels(subject.labels)
        drawn_on = next((kind for kind in [reference, *scans] if labels.grid.is_same(volumes[kind].grid)), "")
        if not drawn_on:
            shape = " x ".join(map(str, labels.grid.shape))
            expected = f"the grid of {' or '.join(scans)}"
            raise InputError(subject.labels, f"{shape} voxels, not on the grid of a scan", expected)
    if subject.brain is not None:
        brain = read_labels(subject.brain, volumes[reference].grid, reference).array > 0
        if not brain.any():
            raise InputError(f"{subject.brain}: no voxel above 0; expected a brain mask")
    remarks = _remarks(*filter(None, [*scans.values(), subject.labels, subject.brain]))
    prepared = prepare_subject(volumes, settings, brain)
    remarks += [f"{reference} is already skull-stripped: its brain was used"] if prepared.is_stripped else []
    arrays = {modality: volume.array for modality, volume in prepared.images.items()}
    arrays[MASK] = prepared.brain.astype(np.uint8)
    if labels is not None:
        arrays[LABELS] = labels_on(labels, settings.grid, prepared.matrices[drawn_on]).array
    is_synthetic = all(is_made_up(file) for file in scans.values())
    (folder / RECORD).unlink(missing_ok=True)  # results without a record are unfinished
    for earlier in folder.glob("*"):
        if earlier.name.startswith((f"{name}_", f"{name}.png", f".{name}")) and earlier.suffix in SUFFIXES:
            earlier.unlink()
    for kind, array in arrays.items():
        description = MADE_UP if is_synthetic else b""
        file, code = folder / scan_file(name, kind), settings.target.code
        write_volume(file, array, settings.grid.affine, code, COMPRESSION, description=description)
    draw(prepared, folder / f"{name}.png", name, arrays.get(LABELS))
    transforms = {}
    for modality, matrix in prepared.matrices.items():
        transforms[modality] = {"file": f"{name}_{modality}.tfm", "matrix": matrix.tolist()}
        sitk.WriteTransform(to_transform(matrix), str(folder / f"{name}_{modality}.tfm"))
    record = {
        **wanted,
        "reference": reference,
        "preparation": settings.describe(prepared.is_stripped),
        "grid": _grid_record(settings.grid),
        "sources": {
            modality: source_record(file)
            | {"sha256": wanted["digests"][modality]}
            | _grid_record(volumes[modality].grid)
            for modality, file in scans.items()
        },
        "made_up": is_synthetic,
        "remarks": remarks,
        "figures": asdict(prepared.figures),
        "versions": {package: version(package) for package in VERSIONS} | {"python": platform.python_version()},
        "transforms": transforms,
    }
    write_json(folder / RECORD, record)
    return record


def scan_file(subject: str, modality: str) -> str:
    """Return the file name of a prepared scan."""
    return f"{subject}_{modality}.nii.gz"


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
