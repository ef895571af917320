"""Open every file of a case to its last byte, and report its problems."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common.data.headers import Problem, edges_of, first_line, grid_of, read_headers, read_voxels
from common.data.modalities import first_image
from common.data.preparation import measure
from common.data.regions import CONVENTIONS, known_labels, regions_of
from common.errors import shortened
from scripts.datalists import montage

__all__ = ["CHECKS", "Image", "Record", "examine", "in_mm", "label_values"]

# Check -> severity. An error breaks a training or its scores; a warning deserves a look.
CHECKS = {
    "missing": "error",
    "unreadable": "error",
    "dimensions": "error",
    "size": "error",
    "type": "error",
    "shape": "error",
    "affine": "error",
    "not_finite": "error",
    "constant": "error",
    "label_values": "error",
    "label_as_image": "error",
    "no_label": "error",
    "leakage": "error",
    "duplicate": "error",
    "copy": "error",
    "mask_copy": "warning",
    "empty_mask": "warning",  # not an error: some patients have no lesion
    "orientation": "warning",
    "spacing": "warning",
    "brain_extraction": "warning",
    "skull": "warning",
    "extent": "warning",
    "air": "warning",
    "alignment": "warning",
    "intensity": "warning",
    "negative": "warning",
    "clipped": "warning",
}


CLIPPED = 1e-3  # share of the tissue at the limit of its integer type
LARGEST = float(np.finfo(np.float32).max)  # loading converts voxels to float32
SAMPLE = 1_000_000  # approximate number of voxels for measuring tissue
TISSUE = 0.01  # share of the intensity range above which a voxel is not background
SHOWN = 6  # label values in a message


class Image(NamedTuple):
    """Figures of an image.

    Attributes:
        litres: volume of the tissue, that is of voxels that differ from the background (the median of the corners) by
            more than 1 % of the intensity range.
        high: intensity range: the 99th percentile of the tissue's difference from the background.
        negative: whether a voxel is below zero.
    """

    litres: float
    high: float
    negative: bool


class Record(NamedTuple):
    """Problems and figures of a case.

    Attributes:
        problems: of its files.
        orientation: such as "RAS", of the grid that most files share; "" if no file can be read.
        spacing: edges of a voxel along the world's x, y, z, mm; empty if no file can be read.
        images: one per modality; None for a missing image, or one with an error.
        digests: of the voxels of each image and of the label; b"" if there is none, or it is faulty or constant.
        preparation: figures of all images together (`common.data.preparation.measure`); None if one is faulty.
        volumes: mL of each region of the label; empty if there is no label, or a faulty one.
        thumbnail: a PNG of the first sound image (`scripts.datalists.montage`); empty without one.
    """

    problems: tuple[Problem, ...]
    orientation: str = ""
    spacing: tuple[float, ...] = ()
    images: tuple[Image | None, ...] = ()
    digests: tuple[bytes, ...] = ()
    preparation: dict[str, list[Any]] | None = None
    volumes: Mapping[str, float] = {}
    thumbnail: bytes = b""


def examine(case: Mapping[str, Any], root: str, convention: str | None) -> Record:
    """Open all files of a case to their last byte. Raises nothing, whatever they contain.

    Args:
        case: its files relative to `root`.
        root: the cohort's folder.
        convention: of the labels, a key of `common.data.CONVENTIONS`; None to ask only for whole numbers.
    """
    try:
        return _examine(case, root, convention)
    except Exception as error:  # such as lack of memory; the other cases still have to be checked
        return Record((Problem("unreadable", first_image(case), first_line(error), "a case that can be checked"),))


def _examine(case: Mapping[str, Any], root: str, convention: str | None) -> Record:
    problems, opened, reference = read_headers(case, root)
    images: dict[str, Image | None] = {}
    digests: dict[str, bytes] = {}
    volumes: list[tuple[np.ndarray, np.ndarray]] = []
    lesions: dict[str, float] = {}
    label: np.ndarray | None = None
    for file, scan in opened.items():
        found: list[Problem] = []
        voxels = read_voxels(file, scan, root)
        if isinstance(voxels, Problem):
            found.append(voxels)
        elif file == case.get("label"):
            values, counts = _label_counts(voxels, scan)
            found += _label_problems(file, values, convention)
            if convention is not None and all(CHECKS[problem.check] != "error" for problem in found):
                lesions = _millilitres(values, counts, scan.affine, convention)
        else:
            found, images[file] = _measure(file, voxels, scan)
        if not any(problem.check in ("unreadable", "not_finite", "constant", "empty_mask") for problem in found):
            volume = _float32(voxels, scan)
            digests[file] = _digest(volume)
            if file in images:
                volumes.append((volume, scan.affine))
            else:
                label = volume
        problems += found
    problems += _copies(case, digests)
    if convention is not None and "label" not in case and case.get("split") != "unlabelled":
        problems.append(Problem("no_label", first_image(case), "no label", f"one that follows {convention}"))
    files = (*case["image"], case.get("label"))
    faulty = {problem.file for problem in problems if CHECKS[problem.check] == "error"}
    return Record(
        tuple(problems),
        *grid_of(reference),
        images=tuple(map(images.get, case["image"])),
        digests=tuple(digests.get(file, b"") for file in files),
        preparation=_preparation(volumes) if faulty.isdisjoint(case["image"]) else None,
        volumes=lesions,
        thumbnail=_thumbnail(*volumes[0], label) if volumes else b"",
    )


def _thumbnail(volume: np.ndarray, affine: np.ndarray, label: np.ndarray | None) -> bytes:
    """Of an image and of a label, if that has the image's shape."""
    import nibabel  # here, as `--help` need not wait for it

    same = [volume] if label is None or label.shape != volume.shape else [volume, label]
    turned = [nibabel.as_closest_canonical(nibabel.Nifti1Image(voxels, affine)) for voxels in same]
    image, *mask = (np.asarray(each.dataobj) for each in turned)
    return montage.thumbnail(image, nibabel.affines.voxel_sizes(turned[0].affine), mask[0] if mask else None)


def _millilitres(values: np.ndarray, counts: np.ndarray, affine: np.ndarray, convention: str) -> dict[str, float]:
    """The volume of each region by the number of voxels that each value has."""
    each = abs(float(np.linalg.det(affine[:3, :3]))) / 1000  # mL of a voxel
    found = dict(zip(values.astype(int).tolist(), counts.tolist(), strict=True))
    return {
        name: round(each * sum(found.get(value, 0) for value in region), 4)
        for name, region in regions_of(convention).items()
    }


def _preparation(volumes: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[str, list[Any]]:
    """The figures of images on one grid, each with its affine."""
    import nibabel  # here, as `--help` need not wait for it

    turned = [nibabel.as_closest_canonical(nibabel.Nifti1Image(*volume)) for volume in volumes]
    return measure(np.stack([np.asarray(volume.dataobj) for volume in turned]), turned[0].affine)


def _float32(voxels: np.ndarray, scan: Any) -> np.ndarray:
    """Voxels [H, W, D] as they are meant, after the header's scaling."""
    with np.errstate(over="ignore"):
        return _scaled(voxels.reshape(edges_of(scan), order="F"), scan).astype(np.float32, copy=False)


def _scaled(values: np.ndarray, scan: Any) -> np.ndarray:
    """Stored values after the header's scaling, which makes them float32."""
    slope, intercept = scan.dataobj.slope, scan.dataobj.inter
    if (slope, intercept) == (1, 0):
        return values
    with np.errstate(over="ignore"):
        return values.astype(np.float32) * np.float32(slope) + np.float32(intercept)


def _digest(volume: np.ndarray) -> bytes:
    """16 bytes that depend on the values and the shape, not on the type on disk."""
    values = np.ascontiguousarray(volume.T)
    return hashlib.blake2b(values.data, digest_size=16, salt=str(volume.shape).encode()[:16]).digest()


def _measure(file: str, voxels: np.ndarray, scan: Any) -> tuple[list[Problem], Image | None]:
    """The problems of an image's voxels, and its figures if none of the problems is an error."""
    if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
        count = f"{np.isnan(voxels).sum()} voxels NaN, {np.isinf(voxels).sum()} infinite"
        return [Problem("not_finite", file, count, "finite ones")], None
    slope, intercept = scan.dataobj.slope, scan.dataobj.inter
    lowest, highest = sorted(float(value) * float(slope) + float(intercept) for value in (voxels.min(), voxels.max()))
    if not max(-lowest, highest) <= LARGEST:
        value = f"values from {lowest:.3g} to {highest:.3g}, infinite as float32"
        return [Problem("not_finite", file, value, "finite ones")], None
    lowest, highest = float(np.float32(lowest)), float(np.float32(highest))
    if lowest == highest:
        return [Problem("constant", file, f"{lowest:g} everywhere", "a brain")], None
    step = max(1, round((voxels.size / SAMPLE) ** (1 / 3)))
    values = _scaled(voxels.reshape(edges_of(scan), order="F")[::step, ::step, ::step], scan).astype(np.float64)
    corners = values[:: max(1, values.shape[0] - 1), :: max(1, values.shape[1] - 1), :: max(1, values.shape[2] - 1)]
    distance = np.abs(values - np.median(corners))
    high = float(np.percentile(distance[distance > 0], 99)) if distance.any() else 0.0
    share = float((distance > TISSUE * high).mean())
    litres = share * voxels.size * abs(float(np.linalg.det(scan.affine[:3, :3]))) / 1e6  # mm3
    image = Image(litres, high, min(lowest, highest) < 0)
    return _clipped(file, voxels, share), image


def _clipped(file: str, voxels: np.ndarray, tissue: float) -> list[Problem]:
    """Whether too much tissue is at a limit of the stored type; 0 is ignored (background)."""
    if voxels.dtype.kind not in "iu":
        return []
    limits = np.iinfo(voxels.dtype)
    for limit in {limits.min, limits.max} - {0}:
        count = int((voxels == limit).sum())
        if count > CLIPPED * tissue * voxels.size:
            value = f"{count} voxels at {limit}, a limit of {voxels.dtype.name}"
            return [Problem("clipped", file, value, "intensities below the limit")]
    return []


def _label_counts(voxels: np.ndarray, scan: Any) -> tuple[np.ndarray, np.ndarray]:
    """The values of a label map, sorted, and the number of voxels that have each."""
    stored, counts = np.unique(voxels[voxels != 0], return_counts=True)  # only the few that are not zero are sorted
    if background := voxels.size - counts.sum():
        stored, counts = np.append(stored, stored.dtype.type(0)), np.append(counts, background)
    values = _scaled(stored, scan)
    order = np.argsort(values)
    return values[order], counts[order]


def label_values(file: str, root: str) -> frozenset[int] | Problem:
    """The values of a label map, or why there are none.

    Args:
        file: path relative to `root`.
        root: folder of the file.
    """
    problems, opened, _ = read_headers({"image": [file]}, root)
    if problems:
        return problems[0]
    voxels = read_voxels(file, opened[file], root)
    if isinstance(voxels, Problem):
        return voxels
    values, _ = _label_counts(voxels, opened[file])
    if problem := _no_whole_numbers(file, values):
        return problem
    return frozenset(map(int, values))


def _no_whole_numbers(file: str, values: np.ndarray) -> Problem | None:
    if not np.isfinite(values).all():
        return Problem("not_finite", file, "NaN or infinite labels", "whole numbers")
    if len(broken := values[values != np.round(values)]):
        return Problem("label_values", file, f"label {_listed(broken)}", "whole numbers")
    return None


def _label_problems(file: str, values: np.ndarray, convention: str | None) -> list[Problem]:
    if problem := _no_whole_numbers(file, values):
        return [problem]
    found = frozenset(map(int, values))
    if convention is not None and not found <= known_labels(convention):
        sizes = {name: len(known_labels(name)) for name in CONVENTIONS if found <= known_labels(name)}
        alike = [name for name in sizes if sizes[name] == min(sizes.values())]
        guess = f"looks like {' or '.join(alike)}" if alike else "fits no known convention"
        expected = f"{_listed(sorted(known_labels(convention)))} ({convention})"
        return [Problem("label_values", file, f"labels {_listed(values)}: {guess}", expected)]
    if found == {0}:
        return [Problem("empty_mask", file, "no voxel is labelled", "a lesion, unless the patient has none")]
    if len(found) == 1:
        return [Problem("constant", file, f"{values[0]:g} everywhere", "a lesion in the background 0")]
    return []


def _copies(case: Mapping[str, Any], digests: Mapping[str, bytes]) -> Iterator[Problem]:
    """Modalities of a case that are copies of its label or of each other, by path or by voxels."""
    label = case.get("label")
    first: dict[Any, str] = {}
    if label is not None:
        first = dict.fromkeys(_identities(label, digests), label)
    truth = set(first)
    for file in filter(None, case["image"]):
        names = _identities(file, digests)
        same = next((first[name] for name in names if name in first), None)
        if not truth.isdisjoint(names):
            yield Problem("label_as_image", file, f"the label {Path(str(label)).name}", "an image, not its truth")
        elif same is not None:
            what = "the file of another modality" if same == file else f"the voxels of {Path(same).name}"
            yield Problem("copy", file, what, "an image of its own")
        first |= {name: file for name in names if name not in first}


def _identities(file: str, digests: Mapping[str, bytes]) -> list[str | bytes]:
    """Values that are equal for two copies: the path, and the digest if there is one."""
    return [os.path.normpath(file), *filter(None, [digests.get(file)])]


def in_mm(spacing: Sequence[float] | np.ndarray) -> str:
    """A spacing as text, such as "1 x 1 x 1 mm"."""
    return " x ".join(f"{edge:.3g}" for edge in spacing) + " mm"


def _listed(values: Sequence[float] | np.ndarray) -> str:
    return shortened([f"{value:g}" for value in values], SHOWN)
