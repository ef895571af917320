"""Write the pages of an evaluation: evaluation.html, without scripts, and a page for the slices of each chosen case.

On a page of slices, NiiVue scrolls through the images and masks in three planes. The page holds NiiVue and 8-bit NIfTI
volumes, cropped to the head and in RAS orientation. Slices follow the radiological convention.
"""

import base64
import gzip
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import nibabel
import numpy as np
from markupsafe import Markup
from nibabel.affines import voxel_sizes
from numpy.typing import NDArray

from common.components import box_of
from common.data.regions import colours, regions_of
from common.data.volumes import check_grid, content_of, header_on, read_scan
from common.errors import InputError, choice
from common.inference.evaluation import PAGE, SLICES, Record, count_lesions, region_names, summarise
from common.metrics.protocols import PRESENT, Protocol
from common.training.pictures import PLANES, centre_of, grey_levels, joined, window_of
from scripts.evaluate.cases import scored_masks
from scripts.evaluate.definitions import meaning_of, metrics_of, title_of
from scripts.evaluate.several import read_record
from scripts.pages.panels import planes, png
from scripts.pages.templates import write_page
from scripts.prepare.volumes import canonical

HERE = Path(__file__).parent
# 0.69.0, from npm; SHA-256 47b896b77ec4a5be3ef1949c33ad393b6f45629921f326c279000bcf51bdb4af
NIIVUE = HERE / "niivue.umd.js"
RANGE = (0.05, 99.95)  # percentiles of an image that become the bytes 0 and 255
DARK = 8  # highest grey level of the background
MARGIN = 2  # voxels around the head and the masks
SHOWN = 3  # largest number of worst cases, of median cases and of best cases
EDGE = 320  # pixels of a slice's longer edge
REFERENCE, PREDICTION = "#ffa200", "#2ba6ff"  # colours of the outlines


class Scene(NamedTuple):
    """Masks and images of a case in RAS orientation, cropped to the head and the masks."""

    masks: Mapping[str, Mapping[str, NDArray[np.bool_]]]  # by layer (prediction, reference) and region
    images: Mapping[str, NDArray[np.float32]]  # by modality; a black one if none can be drawn
    faults: list[str]  # why images are left out, a sentence for each
    affine: NDArray[np.float64]  # of voxels to mm
    to_scene: NDArray[np.float64]  # of voxels of the original label map to voxels of the scene


def write_pages(folder: Path, slices: str = "chosen") -> Path:
    """Write evaluation.html and pages of slices of the evaluation in a folder; return the path of evaluation.html.

    `slices` selects the cases with a page of slices: none, chosen (those on evaluation.html) or all.
    """
    record, protocol = read_record(folder)
    shown, metrics = choose(record, protocol), metrics_of(protocol)
    means = {  # the two means of Dice, equal if all cases have the region (DIFF-23)
        "dice": metrics["dice"]._replace(title="Dice, all cases"),
        PRESENT: metrics["dice"]._replace(title="Dice, cases with the region"),
    }
    linked = choice("slices", slices, {"none": [], "chosen": [*shown], "all": [*record["cases"]]})
    for name in dict.fromkeys([*shown, *linked]):
        scene = read_scene(folder, record, name)
        if name in linked:
            write_slices(folder, record, name, scene)
        if name in shown:
            shown[name] |= {"faults": scene.faults, "pictures": _pictures(scene)}
    write_page(
        folder / PAGE,
        HERE / "evaluation.html.j2",
        made=record["made"],
        record=record,
        links={name: f"{SLICES}/{quote(name, safe='')}.html" for name in linked},
        protocol=protocol,
        title=title_of(protocol),
        meaning=meaning_of(protocol),
        metrics=[*metrics.values()],
        summary=summarise(record, protocol),
        means=metrics | means,
        shown=shown,
        count_lesions=count_lesions,
        colours={"reference": REFERENCE, "prediction": PREDICTION},
    )
    return folder / PAGE


def choose(record: Record, protocol: Protocol) -> dict[str, dict[str, Any]]:
    """Choose the worst, median and best cases by the protocol's first metric, averaged over regions; no case twice.

    Each group has up to three cases and at most a third of all cases; of fewer than three, all are chosen. Cases
    without a prediction or with only empty masks are left out. Return "rank" and "score" of each case.
    """
    (primary, unit), ranked = next(iter(protocol.units.items())), []
    for name, entry in record["cases"].items():
        regions = entry["regions"].values()
        volume = sum(sum(scores["volumes_mm3"]) for scores in regions)
        if entry["prediction"] is not None and volume:
            ranked.append((float(np.mean([scores["values"][primary] for scores in regions])), volume, name))
    ranked.sort(reverse=unit != "1")
    count, share = len(ranked), min(SHOWN, len(ranked) // 3)
    groups = {"Worst": ranked[:share], "Median": ranked[(count - share) // 2 :][:share], "Best": ranked[::-1][:share]}
    if count < 3:
        groups = {"Worst and best": ranked}
    return {
        name: {"rank": f"{label}, {number} of {len(group)}", "score": mean}
        for label, group in groups.items()
        for number, (mean, _, name) in enumerate(group, 1)
    }


def read_scene(folder: Path, record: Record, name: str) -> Scene:
    """Read the masks and images of a case; reorient and crop them alike."""
    entry = record["cases"][name]
    masks = scored_masks(folder, entry, record["label_convention"])
    grid, images, faults = canonical(next(iter(masks.references.values())), masks.affine)[1], {}, []
    layers = {
        layer: {region: canonical(mask, masks.affine)[0] for region, mask in regions.items()}
        for layer, regions in (("prediction", masks.predictions), ("reference", masks.references))
    }
    head = np.logical_or.reduce([mask for regions in layers.values() for mask in regions.values()])
    for modality, file in entry.get("modalities", {}).items():
        try:
            scan, stored = read_scan(folder / file, np.float32)
            voxels, placed = canonical(stored, scan.affine)
            check_grid(modality, (voxels.shape, placed), (head.shape, grid), "the reference")
        except InputError as error:
            faults.append(f"{modality} is not shown: {error}.")
        else:
            images[modality] = voxels
            head = head | (grey_levels(voxels) > DARK)
    sides = box_of(head) if head.any() else tuple(slice(0, side) for side in head.shape)
    box = tuple(slice(max(0, side.start - MARGIN), side.stop + MARGIN) for side in sides)
    grid = grid @ nibabel.affines.from_matvec(np.eye(3), [side.start for side in box])
    cropped = {layer: {region: mask[box] for region, mask in regions.items()} for layer, regions in layers.items()}
    drawn = {name: voxels[box] for name, voxels in images.items()} or {"no image": np.zeros_like(head[box], np.float32)}
    return Scene(cropped, drawn, faults, grid, np.linalg.inv(grid) @ masks.affine)


def _pictures(scene: Scene) -> dict[str, bytes]:
    """Draw each region in three planes through the reference or, if that is empty, the prediction, as PNG."""
    levels, pictures = grey_levels(next(iter(scene.images.values()))), {}
    for region, reference in scene.masks["reference"].items():
        prediction = scene.masks["prediction"][region]
        centre = centre_of(reference if reference.any() else prediction)
        outlines = {REFERENCE: reference, PREDICTION: prediction}
        panels = planes(levels, centre, voxel_sizes(scene.affine), outlines, EDGE)
        pictures[region] = png(joined({region: panels}, PLANES))
    return pictures


def write_slices(folder: Path, record: Record, name: str, scene: Scene) -> None:
    """Write a case's page, FOLDER/slices/CASE.html, with a list of its lesions."""
    volumes, modalities = {}, []
    for count, (modality, voxels) in enumerate(scene.images.items()):
        low, high = map(float, np.percentile(np.nan_to_num(voxels, posinf=0, neginf=0), RANGE))
        slope = max(high - low, 1e-6) / 255
        levels = np.clip(np.rint((np.nan_to_num(voxels) - low) / slope), 0, 255).astype(np.uint8)
        volumes[f"image-{count}"] = _nifti(levels, scene.affine, slope, low)
        modalities.append({"name": modality, "window": window_of(voxels), "range": [low, low + 255 * slope]})
    values = regions_of(record["label_convention"])
    order = sorted(values, key=lambda region: -len(values[region]))  # outermost first; regions that overlap are nested
    for count, masks in enumerate(scene.masks.values()):
        codes = np.zeros(masks[order[0]].shape, np.uint8)  # of each voxel's innermost region; 0 for none
        for code, region in enumerate(order, 1):
            codes[masks[region]] = code
        volumes[f"layer-{count}"] = _nifti(codes, scene.affine)
    largest = next((mask for mask in scene.masks["reference"].values() if mask.any()), None)
    if largest is None:
        largest = np.logical_or.reduce([*scene.masks["prediction"].values()])
    library, script = NIIVUE.read_bytes(), (HERE / "slices.js").read_text(encoding="utf-8")
    write_page(
        folder / SLICES / f"{name}.html",
        HERE / "slices.html.j2",
        made=record["made"],
        name=name,
        data={
            "modalities": modalities,
            "layers": list(scene.masks),
            "regions": region_names(record),
            "colours": colours(record["label_convention"]),
            "codes": [[], *([outer for outer in order if values[outer] >= values[region]] for region in order)],
            "shape": list(codes.shape),
            "to_scene": np.round(scene.to_scene[:3], 6).tolist(),
            "start": centre_of(largest),
        },
        faults=scene.faults,
        entry=record["cases"][name],
        volumes=volumes,
        library=base64.b64encode(gzip.compress(library, mtime=0)).decode(),
        script=Markup(script),
        script_hashes=[base64.b64encode(hashlib.sha256(code).digest()).decode() for code in (script.encode(), library)],
    )


def _nifti(voxels: NDArray[np.uint8], affine: NDArray[np.float64], slope: float = 1.0, inter: float = 0.0) -> str:
    """Return a volume as .nii.gz in base 64; a voxel's value is slope x byte + inter."""
    return base64.b64encode(gzip.compress(content_of(voxels, header_on(affine), slope, inter), 6, mtime=0)).decode()
