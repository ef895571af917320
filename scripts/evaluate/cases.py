"""Find each case's files, prediction, reference and images, and read its masks."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.data import datalists
from common.data.names import SUFFIX, images_of
from common.data.regions import declaration, display_order, regions_of
from common.data.volumes import Problem, check_grid, labels_in, read_scan, warn_of_orientation
from common.errors import InputError, shortened
from common.files import existing_folder
from common.metrics.measures import spacing_of
from common.metrics.protocols import Protocol, check_convention

BINARY = "lesion=1"  # default label convention of a folder of references


class Case(NamedTuple):
    """The files of a case; `prediction` None counts as empty, `images` are pairs of modality and file."""

    name: str
    prediction: Path | None
    reference: Path
    images: tuple[tuple[str, Path], ...] = ()


class CaseMasks(NamedTuple):
    """Masks [x, y, z] by region, in display order, on the grid of the reference; of a missing prediction, empty."""

    predictions: dict[str, NDArray[np.bool_]]
    references: dict[str, NDArray[np.bool_]]
    affine: NDArray[np.float64]


def find_cases(
    predictions: str,
    references: str,
    protocol: Protocol | None,
    missing: str | None = None,
    dataset_dir: str | None = None,
    split: str = "testing",
    label_convention: str | None = None,
) -> tuple[str, list[Case]]:
    """Return an evaluation's label convention, and its cases sorted by name; see `scripts.evaluate` for the options.

    Raise InputError if a file is missing, or if the convention is unknown or not scored by `protocol` (None: any).
    """
    predicted = label_maps("predictions", predictions)
    path, images = Path(references).expanduser(), {}
    if path.is_file() != (dataset_dir is not None) or None not in (dataset_dir, label_convention):
        expected = "a datalist with --dataset_dir, or a folder, perhaps with --label_convention"
        raise InputError(f"--references={references}", expected=expected)
    if dataset_dir is not None:
        source = datalists.Datalist(path, dataset_dir)
        convention = source.content["label_convention"]
        if convention is None:
            raise InputError(path, "label_convention null", "the convention of the labels")
        entries = source.load(split, None, convention, must_exist=False, missing=())
        labels = {entry["subject"]: Path(entry["label"]) for entry in entries}
        images = {entry["subject"]: images_of(entry, source.content["modalities"]) for entry in entries}
    else:
        default = protocol.conventions[0] if protocol and protocol.conventions else BINARY
        convention = declaration(str(label_convention or default))
        labels = label_maps("references", references)
    if protocol is not None:
        check_convention(protocol.name, convention)
    absent, extra = sorted(labels.keys() - predicted.keys()), sorted(predicted.keys() - labels.keys())
    if extra or (absent and (missing is None or len(absent) == len(labels))):
        problem = f"no prediction for {len(absent)} cases ({shortened(absent)}), no reference for {len(extra)}"
        expected = "one for each reference, or --missing=worst"
        raise InputError(f"--predictions={predictions}", f"{problem} ({shortened(extra)})", expected)
    for name, file in predicted.items():
        if file.resolve() == labels[name].resolve():
            raise InputError(f"--predictions={predictions}", f"{file.name} is the reference itself", "a prediction")
    cases = [Case(name, predicted.get(name), label, images.get(name, ())) for name, label in labels.items()]
    return convention, sorted(cases)


def label_maps(option: str, folder: str | Path) -> dict[str, Path]:
    """Return a folder's label maps by case, sorted; raise an InputError, naming `option`, for a bad name or no file."""
    files: dict[str, Path] = {}
    for file in sorted(existing_folder(folder, f"--{option}={folder}", "a folder of label maps").iterdir()):
        name = SUFFIX.sub("", file.name)
        if name != file.name and not name.startswith("."):
            if file.is_dir() or name in files:  # ignored, the case might count as empty
                raise InputError(f"--{option}={folder}", f"{file.name}: a folder, or a second file of its case")
            files[name] = file
    if not files:
        raise InputError(f"--{option}={folder}", "no label map", "CASE.nii.gz (or .nii, .mgz) for each case")
    return files


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
