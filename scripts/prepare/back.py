"""Write label maps in a target's space back to the grid of the raw scans."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from common.data.headers import broken_file, first_line
from common.data.volumes import write_volume
from common.errors import InputError
from common.prepare.resampling import labels_on
from common.prepare.volumes import Grid, Volume
from scripts.prepare.cohort import Outcome
from scripts.prepare.store import read_record

__all__ = ["Order", "Prediction", "send_back"]

MOST = 64  # labels in a map; more look like an image


@dataclass(frozen=True)
class Prediction:
    """A label map's subject and file."""

    name: str
    file: Path


@dataclass(frozen=True)
class Order:
    """A label map to write back, for `send_back`; `modality` is a scan's, or None for the reference."""

    subject: Prediction
    prepared: Path
    output: Path
    modality: str | None


def send_back(order: Order) -> Outcome:
    """Write one label map to the grid of a raw scan, as OUTPUT/SUBJECT.nii.gz.

    Raises:
        InputError: the subject was not prepared, or the file is no label map on the grid of its prepared scans.
    """
    record = read_record(order.prepared / order.subject.name)
    modality = order.modality or record["settings"]["reference"]
    if modality not in record["transforms"]:
        raise InputError(f"--modality={modality}: not prepared; expected one of {', '.join(record['transforms'])}")
    labels = _read_labels(order.subject.file, _grid(record["grid"]))
    raw = _grid(record["sources"][modality])
    matrix = np.linalg.inv(np.array(record["transforms"][modality]["matrix"]))
    found = labels_on(labels, raw, matrix)
    write_volume(order.output / f"{order.subject.name}.nii.gz", found.array, raw.affine)
    return Outcome(order.subject.name, is_new=True)


def _grid(record: Any) -> Grid:
    x, y, z = record["shape"]
    return Grid((x, y, z), np.array(record["affine"], np.float64))


def _read_labels(path: Path, expected: Grid) -> Volume:
    if broken := broken_file([path]):
        raise InputError(f"{path}: {broken[1]}; expected a label map")
    try:
        image: Any = nibabel.load(path)
        voxels = np.asarray(image.dataobj)
    except Exception as error:  # readers raise many kinds for damaged files
        raise InputError(f"{path}: {first_line(error)}; expected a label map") from error
    if voxels.ndim != 3 or not Grid(voxels.shape, image.affine).is_same(expected):
        shape = " x ".join(map(str, voxels.shape))
        here = " x ".join(map(str, expected.shape))
        raise InputError(f"{path}: {shape} voxels on another grid; expected the {here} of the prepared scans")
    values = np.unique(voxels)
    if not np.isfinite(values).all() or (values != values.round()).any() or values.min() < 0 or values.max() > 65535:
        raise InputError(
            f"{path}: values from {values.min():g} to {values.max():g}; expected labels, whole numbers from 0"
        )
    if len(values) > MOST:
        raise InputError(f"{path}: {len(values)} different values; expected a label map")
    return Volume(voxels.astype(np.uint8 if values.max() < 256 else np.uint16), np.asarray(image.affine))
