"""Pictures of a scored case: slices with the outlines of prediction and reference, and marked lesions.

A picture is an SVG in mm, so that voxels have their true aspect ratio: the slice of the image is a PNG, outlines are
paths. Slices follow the radiological convention.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from math import ceil, pi, sqrt
from typing import Any, NamedTuple

import cc3d
import nibabel
import numpy as np
from contourpy import contour_generator
from markupsafe import Markup, escape
from numpy.typing import NDArray
from PIL import Image

from ..inference.masks import masks_of
from ..inference.pictures import PLANES, centre_of, plane_of
from ..inference.results import CaseFiles
from ..metrics.lesions import Lesion
from ..metrics.measures import spacing_of
from ..metrics.protocols import Protocol, Scores
from .templates import png_uri
from .volumes import AXES, grey_levels, read_on_grid, widened

__all__ = ["EXTRA", "MARKED", "Drawing", "LesionPanel", "Panel", "Row", "draw"]

EXTRA = 6  # lesions of a case that get their own slice, at most
MARKED = 12  # lesions of a region that are marked, at most; the largest ones
PIXELS = 256  # of the longer edge of a slice, at most
GREYS = 64  # grey levels: two thirds of the bytes of 256 levels
MARGIN = 20.0  # mm around the masks if there is no image
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


class Row(NamedTuple):
    """The three planes of a region.

    `marked` has the number and the centre, a voxel of the file, of each marked lesion; `unmarked` counts the missed or
    false lesions beyond `MARKED`.
    """

    region: str
    panels: list[Panel]
    marked: list[tuple[int, tuple[int, int, int]]]
    unmarked: int


class Drawing(NamedTuple):
    """The pictures of a case.

    `unseen` counts the missed or false lesions in no picture; `fault` is the reason if there is no image.
    """

    rows: list[Row]
    lesions: list[LesionPanel]
    unseen: int
    fault: str | None


class _Mark(NamedTuple):
    """A lesion to mark: its number in lesions.csv, and its label in an array of labels."""

    lesion: Lesion
    number: int
    labels: NDArray[np.integer[Any]]
    label: int


@dataclass(frozen=True)
class _Scene:
    """A case in RAS orientation, cropped."""

    name: str
    grey: NDArray[np.uint8] | None
    predictions: Mapping[str, NDArray[np.bool_]]
    references: Mapping[str, NDArray[np.bool_]]
    spacing: NDArray[np.float64]
    to_scene: NDArray[np.float64]  # from the file's voxels to voxels of the scene
    affine: NDArray[np.float64]  # from the file's voxels to mm

    @property
    def shape(self) -> NDArray[np.int64]:
        return np.array(next(iter(self.references.values())).shape)

    @property
    def edge(self) -> float:
        """The edge of every picture in mm: the longest edge of the scene, so that all pictures have one scale."""
        return float((self.spacing * self.shape).max())


def draw(files: CaseFiles, scores: Mapping[str, Scores], protocol: Protocol, convention: str) -> Drawing:
    """Draw each region of a case in three planes through the largest extent of its reference, or of its prediction.

    A circle marks a missed lesion, a diamond a false one, with its number in lesions.csv. A lesion in none of the three
    slices gets its own axial slice; missed lesions come first, at most `EXTRA` in all.

    Args:
        files: of the case.
        scores: of each region.
        protocol: that measured the scores.
        convention: label convention of the label maps.

    Raises:
        InputError: as `common.inference.masks.masks_of`.
    """
    scene, fault = _scene(files, convention)
    rows: list[Row] = []
    hidden: dict[Lesion, dict[str, _Mark]] = {}  # by region; a lesion that regions share is equal in each
    for region, measured in scores.items():
        centre = _centre(scene, region)
        slices = {plane: centre[2 - number] for number, plane in enumerate(PLANES)}
        seen = []
        for mark in _marks(scene, region, measured, protocol):
            if any(_slice_of(mark, plane, at).any() for plane, at in slices.items()):
                seen.append(mark)
            else:
                hidden.setdefault(mark.lesion, {})[region] = mark
        panels = [Panel(plane, _panel(scene, region, plane, at, seen[:MARKED])) for plane, at in slices.items()]
        marked = [(mark.number, mark.lesion.centre) for mark in seen[:MARKED]]
        rows.append(Row(region, panels, marked, max(0, len(seen) - MARKED)))
    ranked = sorted(hidden.values(), key=lambda marks: not next(iter(marks.values())).lesion.is_reference)
    lesions = [_lesion_panel(scene, marks) for marks in ranked[:EXTRA]]
    return Drawing(rows, lesions, len(hidden) - len(lesions), fault)


def _scene(files: CaseFiles, convention: str) -> tuple[_Scene, str | None]:
    predictions, references, affine, _ = masks_of(files, convention)
    shape = next(iter(references.values())).shape
    orientation = nibabel.io_orientation(affine)
    canonical = affine @ nibabel.orientations.inv_ornt_aff(orientation, shape)
    turned = [
        {region: nibabel.orientations.apply_orientation(mask, orientation) for region, mask in masks.items()}
        for masks in (predictions, references)
    ]
    union = np.logical_or.reduce([mask for masks in turned for mask in masks.values()])
    grey, fault = _image(files, union.shape, canonical)
    spacing = np.array(spacing_of(canonical))
    box = widened(union if grey is None else union | (grey > 8), np.ceil(MARGIN / spacing) if grey is None else 2)
    to_scene = np.linalg.inv(canonical) @ affine
    to_scene[:3, 3] -= [side.start for side in box]
    predicted, truth = ({region: mask[box] for region, mask in masks.items()} for masks in turned)
    return _Scene(files.name, None if grey is None else grey[box], predicted, truth, spacing, to_scene, affine), fault


def _image(
    files: CaseFiles, shape: tuple[int, ...], affine: NDArray[np.float64]
) -> tuple[NDArray[np.uint8] | None, str | None]:
    if files.image is None:
        return None, "There is no image: only the masks are drawn."
    voxels, fault = read_on_grid(files.image, shape, affine)
    if voxels is None:
        return None, f"The image {fault}: only the masks are drawn."
    return grey_levels(voxels).astype(np.uint8), None


def _centre(scene: _Scene, region: str) -> tuple[int, int, int]:
    """The centre of the region's reference; if it is empty, of its prediction; then of any other region."""
    masks = [scene.references[region], scene.predictions[region]]
    masks += [*scene.references.values(), *scene.predictions.values()]
    return centre_of(next((mask for mask in masks if mask.any()), masks[0])[None])


def _marks(scene: _Scene, region: str, scores: Scores, protocol: Protocol) -> list[_Mark]:
    """The missed lesions, then the false ones, each with its voxels."""
    numbered = list(enumerate(scores.lesions, 1))
    marks = []
    for is_reference, masks in ((True, scene.references), (False, scene.predictions)):
        wanted = [
            (number, lesion)
            for number, lesion in numbered
            if lesion.is_reference == is_reference and lesion.is_scored and not lesion.is_found
        ]
        if wanted:
            labels = cc3d.connected_components(
                np.ascontiguousarray(masks[region]), connectivity=protocol.settings["connectivity"]
            )
            found = cc3d.statistics(labels)
            for number, lesion in wanted:
                marks.append(_Mark(lesion, number, labels, _label_of(scene, lesion, found)))
    return marks


def _label_of(scene: _Scene, lesion: Lesion, components: Mapping[str, Any]) -> int:
    """The component that matches a lesion in centre and volume; of a lesion with several components the nearest one."""
    voxels = np.asarray(components["voxel_counts"])[1:]
    distances = np.linalg.norm(np.asarray(components["centroids"])[1:] - _centre_of(scene, lesion), axis=1)
    same = np.isclose(voxels * np.prod(scene.spacing), lesion.volume, rtol=1e-3) & (distances < 2)
    return int(np.lexsort((distances, ~same))[0]) + 1


def _centre_of(scene: _Scene, lesion: Lesion) -> NDArray[np.float64]:
    """The centre of a lesion in voxels of the scene."""
    return np.asarray((scene.to_scene @ [*lesion.centre, 1])[:3])


def _slice(volume: NDArray[Any], plane: str, at: int) -> NDArray[Any]:
    """A slice [rows, columns] as it is seen: the first row is at the top."""
    return plane_of(volume, plane, at)[::-1]


def _slice_of(mark: _Mark, plane: str, at: int) -> NDArray[np.bool_]:
    return np.asarray(_slice(mark.labels, plane, at) == mark.label)


def _lesion_panel(scene: _Scene, marks: Mapping[str, _Mark]) -> LesionPanel:
    region, mark = next(iter(marks.items()))
    areas = (mark.labels == mark.label).sum(axis=(0, 1))
    at = round(float(_centre_of(scene, mark.lesion)[2]))
    if not (0 <= at < len(areas) and areas[at]):  # a curved lesion, or one of several parts
        at = int(areas.argmax())
    picture = _panel(scene, region, "axial", at, [mark], enlarged=1.8)
    numbers = {region: mark.number for region, mark in marks.items()}
    lesion = mark.lesion
    return LesionPanel(_kind(mark), numbers, lesion.volume, _place(scene, lesion), lesion.centre, picture)


def _kind(mark: _Mark) -> str:
    return "missed" if mark.lesion.is_reference else "false"


def _place(scene: _Scene, lesion: Lesion) -> str:
    """The centre in mm from the origin of the file's coordinates, with its side; in a second line the voxel."""
    position = (scene.affine @ [*lesion.centre, 1])[:3]
    sides = (f"{abs(value):.0f} {ends[int(value < 0)]}" for value, ends in zip(position, SIDES, strict=True))
    return f"{', '.join(sides)} mm\nvoxel {', '.join(map(str, lesion.centre))}"


def _panel(scene: _Scene, region: str, plane: str, at: int, marks: Sequence[_Mark], enlarged: float = 1.0) -> Markup:
    """Draw a slice; `enlarged` scales letters and numbers up if the page shows it small."""
    rows, columns = AXES[plane]
    height, width = scene.spacing[rows] * scene.shape[rows], scene.spacing[columns] * scene.shape[columns]
    edge = scene.edge
    left, top = (edge - width) / 2, (edge - height) / 2
    shift = f"translate({left:.2f} {top:.2f}) scale({scene.spacing[columns]:.4f} {scene.spacing[rows]:.4f})"
    parts = [f'<rect class="ground" width="{edge:.2f}" height="{edge:.2f}"/>']
    if scene.grey is not None:
        place = f'x="{left:.2f}" y="{top:.2f}" width="{width:.2f}" height="{height:.2f}" preserveAspectRatio="none"'
        parts.append(f'<image href="{_png(_slice(scene.grey, plane, at))}" {place}/>')
    for kind, masks in (("reference", scene.references), ("prediction", scene.predictions)):
        outline = _outline(_slice(masks[region], plane, at))
        if outline:
            filled = " filled" if scene.grey is None else ""
            parts.append(f'<path class="{kind}{filled}" transform="{shift}" d="{outline}"/>')
    for mark in marks:
        parts.extend(_marked(scene, mark, plane, at, (left, top), enlarged))
    parts.extend(_letters(plane, edge, enlarged))
    alternative = escape(f"{scene.name}, {region}: {plane} slice with the outlines of reference and prediction")
    return Markup(
        f'<svg class="slice" viewBox="0 0 {edge:.2f} {edge:.2f}" role="img" aria-label="{alternative}">'
        f"{''.join(parts)}</svg>"
    )


def _marked(
    scene: _Scene, mark: _Mark, plane: str, at: int, corner: tuple[float, float], enlarged: float
) -> Iterator[str]:
    """A circle around a missed lesion or a diamond around a false one, and its number; nothing in other slices."""
    inside = _slice_of(mark, plane, at)
    if not inside.any():
        return
    rows, columns = (scene.spacing[axis] for axis in AXES[plane])
    row, column = (float(indices.mean()) + 0.5 for indices in np.nonzero(inside))
    x, y, edge = corner[0] + column * columns, corner[1] + row * rows, scene.edge
    radius = max(0.035 * edge * enlarged, 1.2 * sqrt(inside.sum() * rows * columns / pi) + 0.015 * edge)
    if _kind(mark) == "missed":
        yield f'<circle class="mark missed" cx="{x:.2f}" cy="{y:.2f}" r="{radius:.2f}"/>'
    else:
        reach = 1.25 * radius
        corners = (
            f"M{x:.2f} {y - reach:.2f}l{reach:.2f} {reach:.2f} {-reach:.2f} {reach:.2f} {-reach:.2f} {-reach:.2f}z"
        )
        yield f'<path class="mark false" d="{corners}"/>'
    beside = x + radius + 0.01 * edge
    anchor = "start" if beside < 0.9 * edge else "end"
    beside = beside if anchor == "start" else x - radius - 0.01 * edge
    size = 0.06 * edge * enlarged
    yield (
        f'<text class="number {_kind(mark)}" x="{beside:.2f}" y="{min(max(y, size), edge - size / 2):.2f}" '
        f'font-size="{size:.2f}" text-anchor="{anchor}">{mark.number}</text>'
    )


def _letters(plane: str, edge: float, enlarged: float) -> Iterator[str]:
    size = 0.055 * edge * enlarged
    near, middle = 0.65 * size, edge / 2
    places = ((near, middle), (edge - near, middle), (middle, near), (middle, edge - near))
    for letter, (x, y) in zip(ENDS[plane], places, strict=True):
        yield f'<text class="letter" x="{x:.2f}" y="{y + 0.35 * size:.2f}" font-size="{size:.2f}">{letter}</text>'


def _outline(mask: NDArray[np.bool_]) -> str:
    """The outlines of a mask as an SVG path, in pixels; they cut off the corners of pixels."""
    lines = contour_generator(z=np.pad(mask, 1).astype(float)).lines(0.5)
    paths = []
    for line in lines:
        points = np.asarray(line)[:-1] - 0.5  # of the padded mask, whose first pixel has its middle at -0.5
        paths.append("M" + " ".join(f"{x:g} {y:g}" for x, y in points) + "z")
    return "".join(paths)


def _png(pixels: NDArray[np.uint8]) -> str:
    step = 256 // GREYS
    picture = Image.fromarray(np.ascontiguousarray(pixels // step * step))
    shrink = ceil(max(pixels.shape) / PIXELS)
    if shrink > 1:
        picture = picture.resize((picture.width // shrink or 1, picture.height // shrink or 1), Image.Resampling.BOX)
    content = BytesIO()
    picture.save(content, "png", optimize=True)
    return png_uri(content.getvalue())
