"""Pictures of a scored case: slices with outlines of prediction and reference, and marked lesions.

A picture is an SVG in mm, with the slice as PNG and outlines as paths, so that voxels have their true aspect ratio.
Slices follow the radiological convention.
"""

from collections.abc import Mapping, Sequence
from math import ceil, pi, sqrt
from typing import Any, NamedTuple

import cc3d
import numpy as np
from contourpy import contour_generator
from markupsafe import Markup, escape
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from ..data.regions import display_order
from ..inference.masks import masks_of
from ..inference.panels import AXES, PLANES, centre_of, grey_levels, panel, plane_of, png
from ..inference.results import CaseFiles
from ..metrics.lesions import Lesion
from ..metrics.protocols import Protocol, Scores
from .scenes import Scene, scene_of
from .templates import png_uri

EXTRA = 6  # limit of lesions with their own slice, for each case
MARKED = 12  # limit of marked lesions for each region; the largest are marked
PIXELS = 256  # limit of pixels along a slice's longer edge
SIDES = ("RL", "AP", "SI")  # letters of each world axis: positive, negative
ENDS = {"axial": "RLAP", "coronal": "RLSI", "sagittal": "PASI"}  # letters at the left, right, top and bottom of a slice


class Panel(NamedTuple):
    """A slice of a plane."""

    plane: str
    picture: Markup


class LesionPanel(NamedTuple):
    """An axial slice through a lesion; `place` describes the position of its centre, a voxel of the file."""

    kind: str  # missed or false
    numbers: dict[str, int]  # of the lesion, by region; nested regions share lesions
    volume: float  # mm3
    place: str
    centre: tuple[int, int, int]
    picture: Markup


class RegionRow(NamedTuple):
    """The three planes of a region.

    `marked` has the number and centre voxel of each marked lesion; `unmarked` counts missed and false lesions beyond
    `MARKED`.
    """

    region: str
    panels: list[Panel]
    marked: list[tuple[int, tuple[int, int, int]]]
    unmarked: int


class Drawing(NamedTuple):
    """The pictures of a case.

    `unseen` counts missed and false lesions in no picture; `fault` is the reason for a missing image.
    """

    rows: list[RegionRow]
    lesions: list[LesionPanel]
    unseen: int
    fault: str | None


class _Mark(NamedTuple):
    """A lesion to mark: its number in lesions.csv, and its voxels [x, y, z]."""

    lesion: Lesion
    number: int
    voxels: NDArray[np.bool_]

    @property
    def kind(self) -> str:
        return "missed" if self.lesion.is_reference else "false"

    def slice(self, plane: str, at: int) -> NDArray[np.bool_]:
        return plane_of(self.voxels, plane, at)


def draw(files: CaseFiles, scores: Mapping[str, Scores], protocol: Protocol, convention: str) -> Drawing:
    """Draw each region of a case in three planes through the largest extent of its reference, or of its prediction.

    A circle marks a missed lesion, a diamond a false lesion, with its number in lesions.csv. Lesions in none of the
    planes get their own axial slice, missed lesions first, at most `EXTRA` in all.
    """
    predictions, references, affine, _ = masks_of(files, convention)
    images = () if files.image is None else (("The image", files.image),)
    scene = scene_of({"prediction": predictions, "reference": references}, affine, images)
    picture = _Picture(files.name, scene, affine)
    rows: list[RegionRow] = []
    hidden: dict[Lesion, dict[str, _Mark]] = {}  # by region; a lesion that regions share is equal in each
    for region in display_order(scores):
        measured = scores[region]
        masks = (scene.masks["reference"][region], scene.masks["prediction"][region], scene.union)
        centre = centre_of(next((mask for mask in masks if mask.any()), scene.union))
        slices = dict(zip(PLANES, centre[::-1], strict=True))
        seen = []
        for mark in _marks(scene, region, measured, protocol):
            if any(mark.slice(plane, at).any() for plane, at in slices.items()):
                seen.append(mark)
            else:
                hidden.setdefault(mark.lesion, {})[region] = mark
        panels = [Panel(plane, picture.panel(region, plane, at, seen[:MARKED])) for plane, at in slices.items()]
        marked = [(mark.number, mark.lesion.centre) for mark in seen[:MARKED]]
        rows.append(RegionRow(region, panels, marked, max(0, len(seen) - MARKED)))
    ranked = sorted(hidden.values(), key=lambda marks: not next(iter(marks.values())).lesion.is_reference)
    lesions = [picture.lesion(marks) for marks in ranked[:EXTRA]]
    fault = None
    if not scene.images:
        fault = f"{scene.faults[0] if scene.faults else 'There is no image.'} Only the masks are drawn."
    return Drawing(rows, lesions, len(hidden) - len(lesions), fault)


def _marks(scene: Scene, region: str, scores: Scores, protocol: Protocol) -> list[_Mark]:
    """The missed lesions, then the false lesions, each with its voxels."""
    marks = []
    for layer, is_reference in (("reference", True), ("prediction", False)):
        wanted = [
            (count, lesion)
            for count, lesion in enumerate(scores.lesions, 1)
            if lesion.is_reference == is_reference and lesion.is_scored and not lesion.is_found
        ]
        if wanted:
            mask = np.ascontiguousarray(scene.masks[layer][region])
            labels = cc3d.connected_components(mask, connectivity=protocol.settings["connectivity"])
            found = cc3d.statistics(labels)
            marks += [_Mark(lesion, count, labels == _label_of(scene, lesion, found)) for count, lesion in wanted]
    return marks


def _label_of(scene: Scene, lesion: Lesion, components: Mapping[str, Any]) -> int:
    """The component that matches a lesion in centre and volume; of a lesion with several components, the nearest."""
    voxels = np.asarray(components["voxel_counts"])[1:]
    centre = apply_affine(scene.to_scene, lesion.centre)
    distances = np.linalg.norm(np.asarray(components["centroids"])[1:] - centre, axis=1)
    same = np.isclose(voxels * np.prod(scene.spacing), lesion.volume, rtol=1e-3) & (distances < 2)
    return int(np.lexsort((distances, ~same))[0]) + 1


class _Picture:
    """Draw slices of a case as SVG, all at one scale; `affine` is that of its label maps, to mm."""

    def __init__(self, name: str, scene: Scene, affine: NDArray[np.float64]) -> None:
        self.name, self.scene, self.affine = name, scene, affine
        self.levels = next((grey_levels(volume) for volume in scene.images.values()), None)
        self.sizes = scene.spacing * scene.shape  # mm
        self.edge = float(self.sizes.max())  # of every picture, mm

    def lesion(self, marks: Mapping[str, _Mark]) -> LesionPanel:
        """An axial slice through a lesion, with its centre in mm in the file's coordinates."""
        region, mark = next(iter(marks.items()))
        areas = mark.voxels.sum(axis=(0, 1))
        at = round(float(apply_affine(self.scene.to_scene, mark.lesion.centre)[2]))
        if not (0 <= at < len(areas) and areas[at]):  # a curved lesion, or a lesion of several parts
            at = int(areas.argmax())
        centre = mark.lesion.centre
        position = zip(apply_affine(self.affine, centre), SIDES, strict=True)
        place = ", ".join(f"{abs(value):.0f} {ends[int(value < 0)]}" for value, ends in position)
        place = f"{place} mm\nvoxel {', '.join(map(str, centre))}"
        picture = self.panel(region, "axial", at, [mark], enlarged=1.8)
        numbers = {region: mark.number for region, mark in marks.items()}
        return LesionPanel(mark.kind, numbers, mark.lesion.volume, place, centre, picture)

    def panel(self, region: str, plane: str, at: int, marks: Sequence[_Mark], enlarged: float = 1.0) -> Markup:
        """Draw a slice; `enlarged` scales letters and numbers for slices that the page shows small."""
        spacing, edge = self.scene.spacing, self.edge
        rows, columns = AXES[plane]
        width, height = self.sizes[columns], self.sizes[rows]
        left, top = (edge - width) / 2, (edge - height) / 2
        shift = f"translate({left:.2f} {top:.2f}) scale({spacing[columns]:.4f} {spacing[rows]:.4f})"
        parts = [f'<rect class="ground" width="{edge:.2f}" height="{edge:.2f}"/>']
        if self.levels is not None:
            pixels = panel(self.levels, plane, at)
            step = ceil(max(pixels.shape) / PIXELS)
            place = f'x="{left:.2f}" y="{top:.2f}" width="{width:.2f}" height="{height:.2f}" preserveAspectRatio="none"'
            parts.append(f'<image href="{png_uri(png(pixels[::step, ::step]))}" {place}/>')
        for layer in ("reference", "prediction"):
            outline = _outline(plane_of(self.scene.masks[layer][region], plane, at))
            if outline:
                filled = " filled" if self.levels is None else ""
                parts.append(f'<path class="{layer}{filled}" transform="{shift}" d="{outline}"/>')
        for mark in marks:
            inside = mark.slice(plane, at)
            if inside.any():
                row, column = (float(indices.mean()) + 0.5 for indices in np.nonzero(inside))
                area = inside.sum() * spacing[rows] * spacing[columns]
                parts += self._marked(mark, left + column * spacing[columns], top + row * spacing[rows], area, enlarged)
        size = 0.055 * edge * enlarged
        near, middle = 0.65 * size, edge / 2
        places = ((near, middle), (edge - near, middle), (middle, near), (middle, edge - near))
        for letter, (x, y) in zip(ENDS[plane], places, strict=True):
            parts.append(
                f'<text class="letter" x="{x:.2f}" y="{y + 0.35 * size:.2f}" font-size="{size:.2f}">{letter}</text>'
            )
        alternative = escape(f"{self.name}, {region}: {plane} slice with the outlines of reference and prediction")
        head = f'<svg class="slice" viewBox="0 0 {edge:.2f} {edge:.2f}" role="img" aria-label="{alternative}">'
        return Markup(f"{head}{''.join(parts)}</svg>")

    def _marked(self, mark: _Mark, x: float, y: float, area: float, enlarged: float) -> list[str]:
        """A circle around a missed lesion or a diamond around a false one, and its number."""
        edge = self.edge
        radius = max(0.035 * edge * enlarged, 1.2 * sqrt(area / pi) + 0.015 * edge)
        shape = f'<circle class="mark missed" cx="{x:.2f}" cy="{y:.2f}" r="{radius:.2f}"/>'
        if mark.kind == "false":
            reach = f"{1.25 * radius:.2f}"
            corners = f"M{x:.2f} {y - 1.25 * radius:.2f}l{reach} {reach} -{reach} {reach} -{reach} -{reach}z"
            shape = f'<path class="mark false" d="{corners}"/>'
        gap = radius + 0.01 * edge
        anchor, beside = ("start", x + gap) if x + gap < 0.9 * edge else ("end", x - gap)
        size = 0.06 * edge * enlarged
        text = f'x="{beside:.2f}" y="{min(max(y, size), edge - size / 2):.2f}" font-size="{size:.2f}"'
        return [shape, f'<text class="number {mark.kind}" {text} text-anchor="{anchor}">{mark.number}</text>']


def _outline(mask: NDArray[np.bool_]) -> str:
    """The outlines of a mask as an SVG path in pixels; they cut the corners of pixels."""
    lines = contour_generator(z=np.pad(mask, 1).astype(float)).lines(0.5)
    paths = []
    for line in lines:
        points = np.asarray(line)[:-1] - 0.5  # padded mask: the first pixel's centre is at -0.5
        paths.append("M" + " ".join(f"{x:g} {y:g}" for x, y in points) + "z")
    return "".join(paths)
