"""Read cases.json, the record of an evaluation, and the masks of its cases."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.data.regions import display_order, regions_of
from common.data.volumes import Problem, check_grid, labels_in, read_scan, warn_of_orientation
from common.errors import InputError, within
from common.files import existing_folder, read_json
from common.inference.evaluation import CASES, Record
from common.metrics.measures import spacing_of
from common.metrics.protocols import Protocol
from common.metrics.protocols import protocol as protocol_of

EVALUATION = "an evaluation by scripts.evaluate or evaluate.yaml"
SCHEMA = {"type": "object", "required": ["name", "label_convention", "protocol", "settings", "made", "cases"]}


class CaseMasks(NamedTuple):
    """Masks [x, y, z] by region, in display order, on the grid of the reference; of a missing prediction, empty."""

    predictions: dict[str, NDArray[np.bool_]]
    references: dict[str, NDArray[np.bool_]]
    affine: NDArray[np.float64]


def read_record(folder: str | Path) -> tuple[Record, Protocol]:
    """Read an evaluation, its cases sorted by name, and its protocol; raise `InputError` if cases.json does not fit."""
    path = existing_folder(folder, str(folder), EVALUATION) / CASES
    record = read_json(path, EVALUATION, SCHEMA)
    with within(path):
        protocol = protocol_of(record["protocol"], record["settings"].get("challenge"))
    if record["settings"] != protocol.settings:
        raise InputError(path, f"settings {record['settings']}", f"{protocol.settings}, of {protocol.name}")
    return record | {"cases": dict(sorted(record["cases"].items()))}, protocol


def read_masks(prediction: str | Path | None, reference: str | Path, convention: str) -> CaseMasks:
    """Read and check the masks of a case.

    For brats2021 and brats2023, enhancing tumour may be 3 or 4, but not both. Raise `InputError` if a file cannot be
    read, has unknown labels, or is on a different grid (tolerance: 0.001 mm).
    """
    truth, affine = _read_labels(reference, convention)
    predicted = np.zeros_like(truth)
    if prediction is not None:
        predicted, grid = _read_labels(prediction, convention, may_fill=True)
        check_grid(str(prediction), (predicted.shape, grid), (truth.shape, affine), "the reference")
    regions = regions_of("brats2023" if convention == "brats2021" else convention)
    values = {region: tuple(regions[region]) for region in display_order(regions)}
    masks = [{region: np.isin(volume, labels) for region, labels in values.items()} for volume in (predicted, truth)]
    return CaseMasks(masks[0], masks[1], affine)


def scored_masks(folder: Path, entry: Mapping[str, Any], convention: str) -> CaseMasks:
    """Return the masks of a scored case; raise `InputError` if a region's volume has changed since the scoring."""
    prediction, reference = (entry[name] and folder / entry[name] for name in ("prediction", "reference"))
    masks = read_masks(prediction, reference, convention)
    voxel = math.prod(spacing_of(masks.affine))
    for region, scores in entry["regions"].items():
        volumes = [voxel * np.count_nonzero(part[region]) for part in masks[:2]]
        if not np.allclose(volumes, scores["volumes_mm3"], rtol=1e-4, atol=voxel / 2):
            problem = f"{region} has changed since it was scored"
            raise InputError(f"{prediction}, {reference}", problem, "the scored files; evaluate again")
    return masks


def _read_labels(
    path: str | Path, convention: str, may_fill: bool = False
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Read a label map [x, y, z] and its affine; those of brats2021 become those of brats2023."""
    file, (scan, voxels) = str(path), read_scan(path)
    warn_of_orientation(file, scan)
    if convention in ("brats2021", "brats2023"):
        if labels_in(file, voxels) >= {3, 4}:
            raise Problem("label_values", file, "labels 3 and 4", "one of them for enhancing tumour")
        voxels, convention = np.where(np.rint(voxels) == 4, 3, voxels), "brats2023"
    labels_in(file, voxels, convention, may_fill)
    return np.rint(voxels).astype(np.uint8), scan.affine
