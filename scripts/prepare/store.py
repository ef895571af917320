"""The folder of a prepared subject: its files, its record, and how it appears, complete or not at all."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813, the field's name for it

from common.data.volumes import write_volume
from common.errors import InputError
from common.files import valid_json, write_json
from common.locks import lock
from common.prepare.subject import Prepared, Settings
from common.prepare.targets import TARGETS
from common.prepare.volumes import Volume, to_transform
from scripts.prepare.picture import draw

__all__ = [
    "LABELS",
    "RECORD",
    "WORK",
    "alone",
    "begin",
    "finished",
    "folder_of",
    "mask_file",
    "move",
    "picture_file",
    "read_record",
    "scan_file",
    "write_subject",
]

RECORD = "prepare.json"
LEFT_OUT = (
    ".left_out"  # folder in the output for subjects that readers should not take, as they pass over hidden folders
)
LABELS = "seg"  # ends the name of a label map, as in BraTS
WORK = ".prepare"  # folder in the output for what is not finished
COMPRESSION = 1  # level; 6 takes five times as long and saves a tenth


def scan_file(subject: str, modality: str) -> str:
    """Name of a prepared scan."""
    return f"{subject}_{modality}.nii.gz"


def mask_file(subject: str) -> str:
    """Name of the brain mask; `common.inference.find_cases` takes no file with this ending for a scan."""
    return f"{subject}_brain_mask.nii.gz"


def transform_file(subject: str, modality: str) -> str:
    """Name of the transform from the target's space to a scan."""
    return f"{subject}_{modality}.tfm"


def picture_file(subject: str) -> str:
    """Name of the picture."""
    return f"{subject}.png"


def folder_of(output: Path, subject: str, is_left_out: bool) -> Path:
    """The folder of a subject: beside the others, or where those lie that are left out."""
    return output / LEFT_OUT / subject if is_left_out else output / subject


def move(output: Path, subject: str, is_left_out: bool) -> None:
    """Move a prepared subject's folder, if it is not there, to where `folder_of` says.

    Raises:
        InputError: it cannot be moved.
    """
    source, target = folder_of(output, subject, not is_left_out), folder_of(output, subject, is_left_out)
    if not source.is_dir():
        return
    try:
        target.parent.mkdir(exist_ok=True)
        if target.exists():  # an earlier version
            shutil.rmtree(target)
        source.rename(target)
    except OSError as error:
        raise InputError(f"{target}: {error.strerror or error}; expected a folder that can be written") from error


def write_subject(
    output: Path,
    subject: str,
    is_left_out: bool,
    prepared: Prepared,
    settings: Settings,
    record: Mapping[str, Any],
    labels: Volume | None = None,
) -> None:
    """Write the folder of a subject, which this process has begun, in place of an earlier one.

    Args:
        output: folder of all subjects.
        subject: its name.
        is_left_out: whether readers should not take it; see `folder_of`.
        prepared: its scans.
        settings: that they were prepared with.
        record: of this; transforms and files are added.
        labels: its label map on the target's grid.

    Raises:
        InputError: it cannot be written.
    """
    code = TARGETS[settings.target].code
    affine = settings.grid.affine
    with _appearing(output, subject, is_left_out) as folder:
        for modality, volume in prepared.images.items():
            file = folder / scan_file(subject, modality)
            write_volume(file, volume.array, affine, code, code, COMPRESSION)
            sitk.WriteTransform(
                to_transform(prepared.matrices[modality]), str(folder / transform_file(subject, modality))
            )
        if labels is not None:
            write_volume(folder / scan_file(subject, LABELS), labels.array, affine, code, code, COMPRESSION)
        write_volume(folder / mask_file(subject), prepared.brain.astype(np.uint8), affine, code, code, COMPRESSION)
        draw(prepared, folder / picture_file(subject), subject)
        transforms = {
            modality: {"file": transform_file(subject, modality), "matrix": matrix.tolist()}
            for modality, matrix in prepared.matrices.items()
        }
        files = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
        write_json(folder / RECORD, {**record, "transforms": transforms, "files": files})


@contextmanager
def alone(output: Path) -> Iterator[None]:
    """Keep other commands from preparing scans in a folder, and remove what killed processes left unfinished.

    SLURM jobs of an earlier command may still be at work there; see `begin`.

    Raises:
        InputError: another command is at work there, or the folder cannot be written.
    """
    work = output / WORK
    try:
        with lock(work) as held:
            if held is None:
                raise InputError(f"--output={output}: another process prepares scans there; expected to be alone")
            for left in [path for path in work.iterdir() if path.is_dir()]:
                with lock(left) as abandoned:
                    if abandoned is not None:
                        shutil.rmtree(left)
            yield
    except OSError as error:
        if error.strerror is None:  # of a process, not of a file
            raise
        raise InputError(f"{error.filename or output}: {error.strerror}; expected a folder to write to") from error


@contextmanager
def begin(output: Path, subject: str) -> Iterator[None]:
    """Keep other processes, also of other machines that share the folder, from preparing a subject.

    Raises:
        InputError: another process prepares it.
    """
    work = _work(output, subject)
    with lock(work) as held:
        if held is None:
            raise InputError("another process prepares it; expected the same command again when that has ended")
        try:
            yield
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _work(output: Path, subject: str) -> Path:
    """The folder of what is not finished of a subject."""
    return output / WORK / f"{subject}.unfinished"


@contextmanager
def _appearing(output: Path, subject: str, is_left_out: bool) -> Iterator[Path]:
    """A folder to fill; at the end of the block it becomes the subject's, wherever an earlier one lay."""
    new, old = (_work(output, subject) / kind for kind in ("new", "old"))
    wanted = folder_of(output, subject, is_left_out)
    earlier = {folder_of(output, subject, is_out): old / str(is_out) for is_out in (False, True)}
    try:
        for path in (new, old):  # of a process that was killed
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir()
        yield new
        wanted.parent.mkdir(exist_ok=True)
        for folder, kept in earlier.items():
            if folder.exists():
                folder.rename(kept)
        try:
            new.rename(wanted)
        except OSError:
            for folder, kept in earlier.items():
                if kept.exists():
                    kept.rename(folder)
            raise
    except OSError as error:
        raise InputError(f"{wanted}: {error.strerror or error}; expected a folder that can be written") from error


def read_record(folder: Path) -> dict[str, Any]:
    """The record of a prepared subject.

    Raises:
        InputError: there is none, or it is not a record.
    """
    path = folder / RECORD
    record = valid_json(path, "the record of a prepared subject")
    if not isinstance(record, dict) or not {"settings", "sources", "transforms", "figures", "grid"} <= record.keys():
        raise InputError(f"{path}: lacks entries; expected the record of a prepared subject")
    return record


def finished(folder: Path, wanted: Mapping[str, Any]) -> dict[str, Any] | None:
    """The record of a subject that is prepared already, from the same sources in the same way; None otherwise.

    Args:
        folder: of the subject.
        wanted: entries that its record must have.
    """
    try:
        record = read_record(folder)
        sizes = {name: (folder / name).stat().st_size for name in record["files"]}
    except (InputError, OSError, KeyError):
        return None
    same = sizes == record["files"] and all(record.get(key) == value for key, value in wanted.items())
    return record if same else None
