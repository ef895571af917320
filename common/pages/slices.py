"""Write pages of slices, in which NiiVue scrolls through the images and masks of a case in three planes.

A page is a self-contained file with NiiVue and 8-bit NIfTI volumes, cropped to the head and in RAS orientation.
Slices follow the radiological convention.
"""

import base64
import gzip
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from urllib.parse import quote

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from ..data.regions import colours, regions_of
from ..data.volumes import content_of, header_on
from ..files import atomic_write
from ..inference.masks import scored_masks
from ..inference.panels import centre_of, window_of
from ..inference.publishing import SLICES
from ..inference.results import CaseFiles, Details
from ..metrics.lesions import Lesion
from .scenes import scene_of
from .templates import hash_of, render

HERE = Path(__file__).parent
# 0.69.0, from npm; SHA-256 47b896b77ec4a5be3ef1949c33ad393b6f45629921f326c279000bcf51bdb4af
NIIVUE = "niivue.umd.js"
RANGE = (0.05, 99.95)  # percentiles of an image that become the bytes 0 and 255
Masks = Mapping[str, NDArray[np.bool_]]  # [x, y, z] by region


def link_of(name: str) -> str:
    """Return the link to a case's page, relative to the results folder; append `#X,Y,Z` to start at a voxel.

    Example:
        >>> link_of("P 1")
        'slices/P%201.html'
    """
    return f"{SLICES}/{quote(name, safe='')}.html"


def write_case(folder: str | Path, files: CaseFiles, details: Details) -> Path:
    """Write a case's page, FOLDER/slices/CASE.html, with a list of its lesions; return the path.

    Images on a different grid are left out; the page says so.
    """
    path = Path(folder) / SLICES / f"{files.name}.html"
    content = page_of(files, details)
    with atomic_write(path) as file:
        file.write_text(content, encoding="utf-8")
    return path


def _kind(lesion: Lesion) -> str:
    if not lesion.is_reference:
        return "false"
    if not lesion.is_scored:
        return "not scored"
    return "found" if lesion.is_found else "missed"


def page_of(files: CaseFiles, details: Details) -> str:
    """Return a case's page as HTML."""
    predictions, references, affine = scored_masks(files, details)
    layers = {"prediction": predictions, "reference": references}
    scene = scene_of(layers, affine, files.images)
    codes, regions_of_code = _codes(scene.masks, regions_of(details.convention))
    largest = next((mask for mask in scene.masks["reference"].values() if mask.any()), scene.union)
    volumes, modalities = {}, []
    images = scene.images or {"no image": np.zeros(scene.shape, np.float32)}
    for count, (name, voxels) in enumerate(images.items()):
        volumes[f"image-{count}"], levels = _bytes_of(voxels, scene.affine)
        modalities.append({"name": name, **levels})
    volumes |= {f"layer-{count}": _nifti(voxels, scene.affine) for count, voxels in enumerate(codes)}
    (library, digest), script = _niivue(), (HERE / "slices.js").read_text(encoding="utf-8")
    return render(
        HERE / "slices.html.j2",
        made=details.made,
        name=files.name,
        data={
            "modalities": modalities,
            "background": [*scene.images, None].index(scene.background(largest, details.background)),
            "layers": list(layers),
            "regions": list(references),
            "colours": colours(details.convention),
            "codes": regions_of_code,
            "shape": list(scene.shape),
            "to_scene": np.round(scene.to_scene[:3], 6).tolist(),
            "start": list(centre_of(largest)),
        },
        faults=scene.faults,
        missing=files.missing,
        lesions=[
            (region, number, _kind(lesion), lesion)
            for region in details.regions
            for number, lesion in enumerate(details.scores[files.name][region].lesions, 1)
        ],
        volumes=volumes,
        library=library,
        script=Markup(script),
        script_hashes=[hash_of(script.encode()), digest],
    )


def _codes(
    layers: Mapping[str, Masks], labels: Mapping[str, frozenset[int]]
) -> tuple[list[NDArray[np.uint8]], list[list[str]]]:
    """Return, for each layer, the code of each voxel's innermost region; and the regions of each code, outermost first.

    Code 0 has no region. Overlapping regions are nested, so the innermost region determines the rest.
    """
    order = sorted(labels, key=lambda name: -len(labels[name]))
    volumes = []
    for masks in layers.values():
        codes = np.zeros(masks[order[0]].shape, np.uint8)  # a convention has at most 32 regions
        for code, name in enumerate(order, 1):
            codes[masks[name]] = code
        volumes.append(codes)
    return volumes, [[], *([outer for outer in order if labels[outer] >= labels[name]] for name in order)]


def _bytes_of(voxels: NDArray[np.float32], affine: NDArray[np.float64]) -> tuple[str, dict[str, list[float]]]:
    """Return an image in base 64 (see `_nifti`), and its "range" and the initial "window", each [lowest, highest]."""
    finite = np.where(np.isfinite(voxels), voxels, np.float32(0))
    low, high = map(float, np.percentile(finite, RANGE))
    slope = max(high - low, 1e-6) / 255
    levels = np.clip(np.rint((finite - low) / slope), 0, 255).astype(np.uint8)
    return _nifti(levels, affine, slope, low), {"window": list(window_of(voxels)), "range": [low, low + 255 * slope]}


def _nifti(voxels: NDArray[np.uint8], affine: NDArray[np.float64], slope: float = 1.0, inter: float = 0.0) -> str:
    """Return a volume as .nii.gz in base 64; a voxel's value is slope x byte + inter."""
    return base64.b64encode(gzip.compress(content_of(voxels, header_on(affine), slope, inter), 6, mtime=0)).decode()


@cache
def _niivue() -> tuple[str, str]:
    """Return NiiVue's script, gzipped in base 64, and the hash that allows the script to run."""
    content = (HERE / NIIVUE).read_bytes()
    return base64.b64encode(gzip.compress(content, mtime=0)).decode(), hash_of(content)
