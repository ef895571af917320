"""Pages to scroll through a case's images and masks in three planes, in NiiVue.

A page is one self-contained file with NiiVue and 8-bit NIfTI volumes, cropped to the head and in RAS orientation.
Slices follow the radiological convention.
"""

import base64
import gzip
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import cc3d
import nibabel
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from ..files import atomic_write, check_no_link
from ..inference.masks import masks_of
from ..inference.panels import centre_of, window_of
from ..inference.publishing import SLICES
from ..inference.results import CaseFiles
from ..metrics.lesions import Lesion
from ..metrics.measures import spacing_of
from ..metrics.protocols import Scores
from .scenes import scene_of
from .templates import hash_of, render

HERE = Path(__file__).parent
# 0.69.0, as npm has it; SHA-256 47b896b77ec4a5be3ef1949c33ad393b6f45629921f326c279000bcf51bdb4af
NIIVUE = "niivue.umd.js"
RANGE = (0.05, 99.95)  # percentiles of a modality that become 0 and 255
LISTED = 200  # limit of lesions for each region; the largest are listed
Masks = Mapping[str, NDArray[np.bool_]]  # [x, y, z] by region


class _Lesion(NamedTuple):
    """A lesion in the page's list; its centre is in voxels of the label map."""

    region: str
    number: int
    kind: str
    volume: float  # mm3
    centre: tuple[int, int, int]


def link_of(name: str) -> str:
    """The link from a page in the results' folder to a case's page; append `#X,Y,Z` to open it at a voxel.

    Example:
        >>> link_of("P 1")
        'slices/P%201.html'
    """
    return f"{SLICES}/{quote(name, safe='')}.html"


def write_case(folder: str | Path, files: CaseFiles, scores: Mapping[str, Scores], convention: str) -> Path:
    """Write the page of a scored case, FOLDER/slices/CASE.html, and return its path.

    The lesions of `scores` are listed. Images on a different grid are left out, and the page says so.
    """
    predictions, references, affine, _ = masks_of(files, convention)
    lesions = [
        _Lesion(region, number, _kind(lesion), lesion.volume, lesion.centre)
        for region, measured in scores.items()
        for number, lesion in enumerate(measured.lesions[:LISTED], 1)
    ]
    return _write(folder, files, {"prediction": predictions, "reference": references}, affine, lesions)


def write_subject(folder: str | Path, files: CaseFiles, convention: str) -> Path:
    """Write the page of a segmented subject, FOLDER/slices/SUBJECT.html, and return its path.

    It lists the connected parts of each region, largest first; `files.reference` is the label map.
    """
    _, masks, affine, _ = masks_of(files, convention)
    voxel = float(np.prod(spacing_of(affine)))
    lesions = [part for region, mask in masks.items() for part in _parts(region, mask, voxel)]
    return _write(folder, files, {"prediction": masks}, affine, lesions)


def _write(
    folder: str | Path, files: CaseFiles, layers: Mapping[str, Masks], affine: NDArray[np.float64], lesions: Any
) -> Path:
    path = Path(folder) / SLICES / f"{files.name}.html"
    check_no_link(folder, path.relative_to(folder))
    content = _page(files, layers, affine, lesions)
    with atomic_write(path) as file:
        file.write_text(content, encoding="utf-8")
    return path


def _kind(lesion: Lesion) -> str:
    if not lesion.is_reference:
        return "false"
    if not lesion.is_scored:
        return "not scored"
    return "found" if lesion.is_found else "missed"


def _parts(region: str, mask: NDArray[np.bool_], voxel: float) -> Iterable[_Lesion]:
    found = cc3d.statistics(cc3d.connected_components(np.ascontiguousarray(mask), connectivity=26))
    counts, centroids = found["voxel_counts"][1:], found["centroids"][1:]
    for number, part in enumerate(np.argsort(-counts.astype(np.int64), kind="stable")[:LISTED], 1):
        x, y, z = (round(float(place)) for place in centroids[part])
        yield _Lesion(region, number, "segmented", float(counts[part]) * voxel, (x, y, z))


def _page(
    files: CaseFiles, layers: Mapping[str, Masks], affine: NDArray[np.float64], lesions: Collection[_Lesion]
) -> str:
    listed = files.modalities or (() if files.image is None else (("image", files.image),))
    scene = scene_of(layers, affine, listed)
    codes, regions_of_code = _codes(scene.masks)
    regions = list(layers["prediction"])
    largest = next((mask for mask in scene.masks.get("reference", {}).values() if mask.any()), scene.union)
    volumes, modalities = {}, []
    for count, (name, voxels) in enumerate(scene.images.items()):
        volumes[f"image-{count}"], levels = _bytes_of(voxels, scene.affine)
        modalities.append({"name": name, **levels})
    if not modalities:
        volumes["image-0"] = _nifti(np.zeros(scene.shape, np.uint8), scene.affine)
        modalities.append({"name": "no image", "window": [0.0, 1.0], "range": [0.0, 1.0]})
    volumes |= {f"layer-{count}": _nifti(voxels, scene.affine) for count, voxels in enumerate(codes)}
    (library, digest), script = _niivue(), (HERE / "slices.js").read_text(encoding="utf-8")
    return render(
        HERE / "slices.html.j2",
        name=files.name,
        data={
            "modalities": modalities,
            "layers": list(layers),
            "regions": regions,
            "codes": [[regions[region] for region in of] for of in regions_of_code],
            "shape": list(scene.shape),
            "to_scene": np.round(scene.to_scene[:3], 6).tolist(),
            "start": list(centre_of(largest)),
        },
        faults=scene.faults,
        missing=files.missing,
        lesions=lesions,
        listed=LISTED,
        volumes=volumes,
        library=library,
        script=Markup(script),
        script_hashes=[hash_of(script.encode()), digest],
    )


def _codes(layers: Mapping[str, Masks]) -> tuple[list[NDArray[np.uint8]], list[list[int]]]:
    """A volume of codes for each layer, and the regions of each code by number; code 0 has none."""
    bits = [
        np.bitwise_or.reduce([mask.astype(np.int64) << count for count, mask in enumerate(masks.values())])
        for masks in layers.values()
    ]
    values = np.unique(np.concatenate([[0], *map(np.unique, bits)]))
    regions = [[count for count in range(64) if value >> count & 1] for value in values.tolist()]
    return [np.searchsorted(values, each).astype(np.uint8) for each in bits], regions


def _bytes_of(voxels: NDArray[np.float32], affine: NDArray[np.float64]) -> tuple[str, dict[str, list[float]]]:
    """An 8-bit image, its range and its initial window."""
    finite = np.where(np.isfinite(voxels), voxels, np.float32(0))
    low, high = map(float, np.percentile(finite, RANGE))
    slope = max(high - low, 1e-6) / 255
    levels = np.clip(np.rint((finite - low) / slope), 0, 255).astype(np.uint8)
    return _nifti(levels, affine, slope, low), {"window": list(window_of(voxels)), "range": [low, low + 255 * slope]}


def _nifti(voxels: NDArray[np.uint8], affine: NDArray[np.float64], slope: float = 1.0, inter: float = 0.0) -> str:
    """A volume as .nii.gz in base 64; a voxel's value is its byte x slope + inter."""
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape(voxels.shape)
    header.set_sform(affine, "scanner")
    header.set_qform(affine, "scanner", strip_shears=True)
    header["scl_slope"], header["scl_inter"], header["vox_offset"] = slope, inter, 352
    content = header.binaryblock + bytes(4) + voxels.tobytes(order="F")
    return base64.b64encode(gzip.compress(content, 6, mtime=0)).decode()


@cache
def _niivue() -> tuple[str, str]:
    """NiiVue's script, gzipped in base 64, and the hash that allows it to run."""
    content = (HERE / NIIVUE).read_bytes()
    return base64.b64encode(gzip.compress(content, mtime=0)).decode(), hash_of(content)
