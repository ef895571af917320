"""Write label maps in a target's space back to the grid of the raw scans."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.data.volumes import write_volume
from common.errors import InputError
from common.prepare.resampling import labels_on
from common.prepare.volumes import Grid
from scripts.prepare.cohort import Outcome
from scripts.prepare.labels import read_labels
from scripts.prepare.store import read_record

__all__ = ["Order", "Prediction", "send_back"]


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
    if not (order.prepared / order.subject.name).is_dir():
        raise InputError(f"not among the subjects of {order.prepared}; expected a label map of one of them")
    record = read_record(order.prepared / order.subject.name)
    modality = order.modality or record["settings"]["reference"]
    if modality not in record["transforms"]:
        raise InputError(f"--modality={modality}: not prepared; expected one of {', '.join(record['transforms'])}")
    labels = read_labels(order.subject.file, _grid(record["grid"]))
    raw = _grid(record["sources"][modality])
    matrix = np.linalg.inv(np.array(record["transforms"][modality]["matrix"]))
    found = labels_on(labels, raw, matrix)
    write_volume(order.output / f"{order.subject.name}.nii.gz", found.array, raw.affine)
    return Outcome(order.subject.name, is_new=True)


def _grid(record: Any) -> Grid:
    x, y, z = record["shape"]
    return Grid((x, y, z), np.array(record["affine"], np.float64))
