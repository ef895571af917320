"""Write pages of slices, in which NiiVue scrolls through the images and masks of a case in three planes.

A page is a self-contained file with NiiVue and 8-bit NIfTI volumes, cropped to the head and in RAS orientation.
Slices follow the radiological convention.
"""

import base64
import gzip
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import nibabel
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from common.components import box_of
from common.data.regions import colours, regions_of
from common.data.volumes import canonical, check_grid, content_of, header_on, read_scan
from common.errors import InputError
from common.inference.evaluation import SLICES, Record, regions_in
from common.inference.pictures import centre_of, grey_levels, window_of
from scripts.evaluate.cases import CaseMasks, scored_masks
from scripts.pages.templates import write_page

HERE = Path(__file__).parent
# 0.69.0, from npm; SHA-256 47b896b77ec4a5be3ef1949c33ad393b6f45629921f326c279000bcf51bdb4af
NIIVUE = HERE / "niivue.umd.js"
RANGE = (0.05, 99.95)  # percentiles of an image that become the bytes 0 and 255
DARK = 8  # highest grey level of the background
MARGIN = 2  # voxels around the head and the masks


class Scene(NamedTuple):
    """Masks and images of a case in RAS orientation, cropped to the head and the masks."""

    masks: Mapping[str, Mapping[str, NDArray[np.bool_]]]  # by layer (prediction, reference) and region
    images: Mapping[str, NDArray[np.float32]]  # by modality; a black one if none can be drawn
    faults: list[str]  # why images are left out, a sentence for each
    affine: NDArray[np.float64]  # of voxels to mm
    to_scene: NDArray[np.float64]  # of voxels of the original label map to voxels of the scene


def scene_of(folder: Path, entry: Mapping[str, Any], masks: CaseMasks) -> Scene:
    """Read the images of a case; reorient and crop images and masks alike."""
    layers, affine = {"prediction": masks.predictions, "reference": masks.references}, masks.affine
    turned = {
        layer: {region: canonical(mask, affine)[0] for region, mask in regions.items()}
        for layer, regions in layers.items()
    }
    head = np.logical_or.reduce([mask for regions in turned.values() for mask in regions.values()])
    grid, images, faults = canonical(next(iter(masks.references.values())), affine)[1], {}, []
    for name, file in entry.get("modalities", {}).items():
        try:
            scan, stored = read_scan(folder / file, np.float32)
            voxels, placed = canonical(stored, scan.affine)
            check_grid(name, (voxels.shape, placed), (head.shape, grid), "the reference")
        except InputError as error:
            faults.append(f"{name} is not shown: {error}.")
        else:
            images[name] = voxels
            head = head | (grey_levels(voxels) > DARK)
    sides = box_of(head) if head.any() else tuple(slice(0, side) for side in head.shape)
    box = tuple(slice(max(0, side.start - MARGIN), side.stop + MARGIN) for side in sides)
    grid = grid @ nibabel.affines.from_matvec(np.eye(3), [side.start for side in box])
    cropped = {layer: {region: mask[box] for region, mask in regions.items()} for layer, regions in turned.items()}
    drawn = {name: voxels[box] for name, voxels in images.items()} or {"no image": np.zeros_like(head[box], np.float32)}
    return Scene(cropped, drawn, faults, grid, np.linalg.inv(grid) @ affine)


def write_slices(folder: Path, record: Record, name: str, background: str | None) -> None:
    """Write a case's page, FOLDER/slices/CASE.html, with a list of its lesions."""
    entry, convention = record["cases"][name], record["label_convention"]
    scene = scene_of(folder, entry, scored_masks(folder, entry, convention))
    volumes, modalities = {}, []
    for count, (modality, voxels) in enumerate(scene.images.items()):
        low, high = map(float, np.percentile(np.nan_to_num(voxels, posinf=0, neginf=0), RANGE))
        slope = max(high - low, 1e-6) / 255
        levels = np.clip(np.rint((np.nan_to_num(voxels) - low) / slope), 0, 255).astype(np.uint8)
        volumes[f"image-{count}"] = _nifti(levels, scene.affine, slope, low)
        modalities.append({"name": modality, "window": window_of(voxels), "range": [low, low + 255 * slope]})
    values = regions_of(convention)
    order = sorted(values, key=lambda region: -len(values[region]))  # outermost first; regions that overlap are nested
    for count, masks in enumerate(scene.masks.values()):
        codes = np.zeros(masks[order[0]].shape, np.uint8)  # of each voxel's innermost region; 0 for none
        for code, region in enumerate(order, 1):
            codes[masks[region]] = code
        volumes[f"layer-{count}"] = _nifti(codes, scene.affine)
    references = [*scene.masks["reference"].values()]
    largest = next(
        (mask for mask in references if mask.any()), np.logical_or.reduce([*scene.masks["prediction"].values()])
    )
    names, library, script = [*scene.images], NIIVUE.read_bytes(), (HERE / "slices.js").read_text(encoding="utf-8")
    write_page(
        folder / SLICES / f"{name}.html",
        HERE / "slices.html.j2",
        made=record["made"],
        name=name,
        data={
            "modalities": modalities,
            "background": names.index(background) if background in names else 0,
            "layers": list(scene.masks),
            "regions": regions_in(record),
            "colours": colours(convention),
            "codes": [[], *([outer for outer in order if values[outer] >= values[region]] for region in order)],
            "shape": list(codes.shape),
            "to_scene": np.round(scene.to_scene[:3], 6).tolist(),
            "start": centre_of(largest),
        },
        faults=scene.faults,
        entry=entry,
        volumes=volumes,
        library=base64.b64encode(gzip.compress(library, mtime=0)).decode(),
        script=Markup(script),
        script_hashes=[base64.b64encode(hashlib.sha256(code).digest()).decode() for code in (script.encode(), library)],
    )


def _nifti(voxels: NDArray[np.uint8], affine: NDArray[np.float64], slope: float = 1.0, inter: float = 0.0) -> str:
    """Return a volume as .nii.gz in base 64; a voxel's value is slope x byte + inter."""
    return base64.b64encode(gzip.compress(content_of(voxels, header_on(affine), slope, inter), 6, mtime=0)).decode()
