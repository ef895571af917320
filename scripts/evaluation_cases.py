"""Which files belong to a case, and what they hold: predictions beside references, on one grid, of known labels."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import nibabel
import numpy as np
from numpy.typing import NDArray

from common import datalists
from common.checks import AFFINE_TOLERANCE, broken_file
from common.files import looking_at
from common.metrics import spacing_of
from common.preflight import InputError
from common.results import REGIONS

__all__ = ["CONVENTIONS", "CaseFiles", "CaseMasks", "find_cases", "labels_of", "listed", "masks_of", "mixed_labels"]

SUFFIXES = (".nii.gz", ".nii")
CONVENTIONS = {  # whose regions a protocol scores, and those of datalists that it can read
    "brats": ("brats2023", "brats2021"),  # 4 is read as 3
    "atlas": ("atlas",),
    "isles": ("atlas",),
}
WHOLE = 1e-5  # how far off a whole number a label may be: scale factors of headers are single precision
NAMED = 5  # cases, where more are told of in one line


class CaseFiles(NamedTuple):
    """The files of a case; prediction is None where it is absent and counts as empty, image where there is none."""

    name: str
    prediction: Path | None
    reference: Path
    image: Path | None


class CaseMasks(NamedTuple):
    """Masks [x, y, z] by region, in the order of `common.results.REGIONS`, and the affine [4, 4] of the reference."""

    predictions: dict[str, NDArray[np.bool_]]
    references: dict[str, NDArray[np.bool_]]
    affine: NDArray[np.float64]


class _LabelMap(NamedTuple):
    labels: NDArray[np.uint8]  # [x, y, z]; of brats 4 is read as 3
    values: frozenset[int]  # as the file has them
    affine: NDArray[np.float64]


def find_cases(
    predictions: str | Path,
    references: str | Path,
    protocol_name: str,
    missing: str | None = None,
    images: str | Path | None = None,
    dataset_dir: str | Path | None = None,
    split: str = "testing",
) -> list[CaseFiles]:
    """The cases of an evaluation, sorted by name; no file is opened but a datalist.

    Args:
        predictions: folder of NIfTI files, CASE.nii.gz or CASE.nii. What has another suffix is left alone.
        references: folder of files of the same names; or a datalist, whose cases are the subjects of a split that have
            their label for reference and their first image for image.
        protocol_name: atlas, isles or brats.
        missing: worst, to accept that predictions are absent.
        images: folder with CASE.nii.gz, or CASE_*.nii.gz or CASE-*.nii.gz, of which the first in sorted order counts.
        dataset_dir: folder that the datalist's paths start from.
        split: of the datalist.

    Raises:
        InputError: a folder is not there, holds no NIfTI file, or holds a folder of such a name or a suffix in
            capitals; a case is there twice; predictions are absent and `missing` is None, or all are; predictions have
            no reference; a datalist breaks a rule of `common.datalists.load`, or has no labels or other ones than the
            protocol scores.
    """
    predicted = _nifti_files("predictions", predictions)
    with looking_at(f"--references={references}"):
        place = Path(str(references)).expanduser()
        is_datalist = place.is_file()
    if is_datalist:
        truth, pictures = _of_datalist(place, protocol_name, dataset_dir, split)
    else:
        truth, pictures = _of_folder(references, predictions, dataset_dir, split), {}
    _check_names(predicted, truth, predictions, missing)
    if images is not None:
        pictures = _images(_nifti_files("images", images, unique=False), truth)
    return [CaseFiles(name, predicted.get(name), truth[name], pictures.get(name)) for name in sorted(truth)]


def masks_of(files: CaseFiles, protocol_name: str) -> CaseMasks:
    """The regions of a case, WT, TC and ET or lesion; all are empty in a prediction that is None.

    Trailing axes of length 1 are dropped. Label 4 of brats, enhancing tumour up to 2021, is read as 3.

    Args:
        files: of the case.
        protocol_name: atlas, isles or brats.

    Raises:
        InputError: a file cannot be read to its end, is not 3D, has voxels that are no real numbers, NaN, infinite or
            no whole numbers, labels that the protocol does not know, or 3 and 4 both; its header and its affine
            disagree on the voxels' size; prediction and reference differ in shape or, by more than 0.001 mm, in affine.
    """
    from common.transforms import regions  # here, as PyTorch takes seconds that `--help` need not wait

    reference, prediction = _pair(files, protocol_name)
    found = regions(CONVENTIONS[protocol_name][0])
    values = {region: tuple(found[region]) for region in REGIONS if region in found}
    predicted = np.zeros_like(reference.labels) if prediction is None else prediction.labels
    return CaseMasks(
        {region: np.isin(predicted, labels) for region, labels in values.items()},
        {region: np.isin(reference.labels, labels) for region, labels in values.items()},
        reference.affine,
    )


def labels_of(files: CaseFiles, protocol_name: str) -> tuple[frozenset[int], frozenset[int]]:
    """The values in a case's prediction and reference, as the files have them, once `masks_of` would take both."""
    reference, prediction = _pair(files, protocol_name)
    return frozenset() if prediction is None else prediction.values, reference.values


def mixed_labels(cases: Sequence[CaseFiles], found: Sequence[tuple[frozenset[int], frozenset[int]]]) -> str | None:
    """What is wrong where some files have label 3 and others 4, which could then be another tissue; None if nothing."""
    for place, what in enumerate(("prediction", "reference")):
        first: dict[int, Path] = {}
        for files, labels in zip(cases, found, strict=True):
            for label in labels[place] & {3, 4}:
                first.setdefault(label, getattr(files, what))
        if len(first) == 2:
            return f"{first[4]}: label 4, while {first[3]} has 3; expected one of them for enhancing tumour in all"
    return None


def listed(names: Sequence[str]) -> str:
    """Names in one line, shortened where there are many: "a, b, c, d, e and 3 more"."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


# Names


def _nifti_files(option: str, folder: str | Path, unique: bool = True) -> dict[str, Path]:
    """NIfTI files of a folder by their name without suffix, in sorted order."""
    with looking_at(f"--{option}={folder}"):
        path = Path(str(folder)).expanduser()
        files = sorted(path.iterdir()) if path.is_dir() else None
    if files is None:
        raise InputError(f"--{option}={folder}: no such folder; expected one of NIfTI files")
    found: dict[str, Path] = {}
    for file in files:
        suffix = next((suffix for suffix in SUFFIXES if file.name.lower().endswith(suffix)), None)
        if suffix is None or file.name.startswith("."):
            continue
        if file.is_dir() or not file.name.endswith(suffix):
            if unique:  # it would be taken for absent, which may count as empty
                kind = "a folder" if file.is_dir() else "a suffix in capitals"
                raise InputError(f"--{option}={folder}: {json.dumps(file.name)}: {kind}; expected a file *{suffix}")
            continue
        name = file.name.removesuffix(suffix)
        if datalists.UNPRINTABLE.search(name):
            raise InputError(f"--{option}={folder}: {json.dumps(name)}: expected a name of one line in Unicode")
        if name in found and unique:
            raise InputError(f"--{option}={folder}: {found[name].name} and {file.name}; expected one file a case")
        found.setdefault(name, file)
    if not found:
        raise InputError(f"--{option}={folder}: no file that ends with .nii.gz or .nii; expected one for each case")
    return found


def _of_folder(
    references: str | Path, predictions: str | Path, dataset_dir: str | Path | None, split: str
) -> dict[str, Path]:
    for option, value, usual in (("dataset_dir", dataset_dir, None), ("split", split, "testing")):
        if value != usual:
            raise InputError(f"--{option}={value}: expected with a datalist as --references, which is {references}")
    if not Path(str(references)).expanduser().exists():
        raise InputError(f"--references={references}: not there; expected a folder of NIfTI files or a datalist")
    found = _nifti_files("references", references)
    if Path(str(references)).expanduser().samefile(Path(str(predictions)).expanduser()):
        raise InputError(f"--references={references}: the folder of --predictions; expected another one")
    return found


def _of_datalist(
    datalist: str | Path, protocol_name: str, dataset_dir: str | Path | None, split: str
) -> tuple[dict[str, Path], dict[str, Path]]:
    """Labels and first images of a split's subjects."""
    if dataset_dir is None:
        raise InputError(f"--dataset_dir: missing; expected the folder that the paths of {datalist} start from")
    content = datalists.read(datalist)
    convention, known = content["label_convention"], CONVENTIONS[protocol_name]
    if convention not in known:
        expected = " or ".join(sorted(known))
        raise InputError(f"--protocol={protocol_name}: the labels of {datalist} follow {convention}, not {expected}")
    entries = datalists.load(datalist, str(split), dataset_dir, content["modalities"][:1], convention)
    return (
        {entry["subject"]: Path(entry["label"]) for entry in entries},
        {entry["subject"]: Path(entry["image"][0]) for entry in entries},
    )


def _check_names(
    predicted: Mapping[str, Path], truth: Mapping[str, Path], predictions: str | Path, missing: str | None
) -> None:
    absent, extra = sorted(truth.keys() - predicted.keys()), sorted(predicted.keys() - truth.keys())
    faults = []
    if absent and (missing is None or len(absent) == len(truth)):
        faults.append(f"no prediction for {len(absent)} of {len(truth)} cases: {listed(absent)}")
    if extra:
        faults.append(f"no reference for {len(extra)} of {len(predicted)} predictions: {listed(extra)}")
    if faults:
        hint = ", or --missing=worst" if absent and not extra and missing is None and len(absent) < len(truth) else ""
        raise InputError(f"--predictions={predictions}: {'; '.join(faults)}; expected one for each reference{hint}")


def _images(files: Mapping[str, Path], names: Mapping[str, Any]) -> dict[str, Path]:
    """The first image of each case; one belongs to the longest case name that it begins with."""
    found: dict[str, Path] = {}
    for name, file in files.items():
        owner = next((case for case in _beginnings(name) if case in names), None)
        if owner is not None and (owner not in found or name == owner):
            found[owner] = file
    return found


def _beginnings(name: str) -> Iterator[str]:
    """A name, then what is before each "_" and "-" of it, from the last one on."""
    yield name
    for place in range(len(name) - 1, 0, -1):
        if name[place] in "_-":
            yield name[:place]


# Content


def _pair(files: CaseFiles, protocol_name: str) -> tuple[_LabelMap, _LabelMap | None]:
    reference = _read(files.reference, protocol_name)
    if files.prediction is None:
        return reference, None
    prediction = _read(files.prediction, protocol_name)
    shape, expected = (" x ".join(map(str, found.labels.shape)) for found in (prediction, reference))
    if shape != expected:
        raise InputError(f"{files.prediction}: shape {shape}; expected the reference's, {expected}")
    if not np.allclose(prediction.affine, reference.affine, rtol=0, atol=AFFINE_TOLERANCE):
        off = np.abs(prediction.affine - reference.affine).max()
        raise InputError(
            f"{files.prediction}: affine differs from the reference's by up to {off:.3g}; expected the same grid"
        )
    return reference, prediction


def _read(file: Path, protocol_name: str) -> _LabelMap:
    broken = broken_file([file])
    if broken is not None:
        raise InputError(f"{file}: {broken[1]}; expected a NIfTI file that can be read to its end")
    scan: Any = nibabel.load(file)
    shape = tuple(scan.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3 or 0 in shape:
        raise InputError(f"{file}: shape {' x '.join(map(str, scan.shape))}; expected three dimensions")
    if scan.get_data_dtype().kind not in "biuf":
        raise InputError(f"{file}: voxels of type {scan.get_data_dtype()}; expected whole numbers")
    _check_affine(file, scan)
    voxels = np.asanyarray(scan.dataobj).reshape(shape)
    values = _whole_values(file, voxels, protocol_name)
    labels = voxels if voxels.dtype == np.uint8 else np.rint(voxels).astype(np.uint8)
    if 4 in values:
        labels = np.where(labels == 4, np.uint8(3), labels)
    return _LabelMap(labels, values, scan.affine)


def _check_affine(file: Path, scan: Any) -> None:
    affine = scan.affine
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine)) < 1e-9:
        raise InputError(f"{file}: an affine that cannot be inverted; expected one that maps voxels to mm")
    zooms, edges = scan.header.get_zooms()[:3], spacing_of(affine)
    if not np.allclose(zooms, edges, rtol=0, atol=AFFINE_TOLERANCE):
        of_header, of_affine = (" x ".join(f"{edge:g}" for edge in sizes) for sizes in (zooms, edges))
        raise InputError(f"{file}: voxels of {of_header} mm by pixdim; expected those of its affine, {of_affine} mm")


def _whole_values(file: Path, voxels: NDArray[Any], protocol_name: str) -> frozenset[int]:
    """The labels of a file, all of them known to the protocol."""
    known = (0, 1, 2, 3, 4) if protocol_name == "brats" else (0, 1)
    expected = f"labels {', '.join(map(str, known))}"
    if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
        raise InputError(
            f"{file}: {np.count_nonzero(~np.isfinite(voxels))} voxels NaN or infinite; expected {expected}"
        )
    values = np.unique(voxels[voxels != 0]).astype(np.float64)  # few are not zero: sorting them alone is quick
    broken = values[np.abs(values - np.rint(values)) > WHOLE]
    if len(broken):
        raise InputError(f"{file}: value {broken[0]:g}; expected whole numbers, {expected}")
    found = frozenset(int(value) for value in np.rint(values)) | ({0} if (voxels == 0).any() else set())
    unknown = sorted(found - set(known))
    if unknown:
        raise InputError(f"{file}: label {listed([f'{value:.15g}' for value in unknown])}; expected {expected}")
    if {3, 4} <= found:
        raise InputError(f"{file}: labels 3 and 4; expected one of them for enhancing tumour")
    return found
