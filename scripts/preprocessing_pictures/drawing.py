"""Draw a case after each transform, a panel for each."""

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Polygon
from PIL import Image, PngImagePlugin

from common.data.regions import colours, painting_order, regions_of
from common.files import atomic_write
from common.inference.pictures import INK, PAPER
from scripts.preprocessing_pictures.steps import Step

__all__ = ["centre_of_lesion", "draw", "save", "slice_through"]

Z_RANGE = (-3.0, 3.0)  # standard deviations that the grey scale shows
DOTS = 118  # dots per inch; 1300 in total, so that a page shrinks text by at most a third
WIDTH = 11.0  # inches
GREYS = 48  # in a PNG's palette; fewer give smaller files
BOX = colours("brats2021")["TC"]


def draw(taken: Sequence[Step], modalities: Sequence[str], convention: str | None, title: str) -> Figure:
    """A column for each step, a row for each modality and one for the label; all show the same place.

    Slices are drawn as in the array: the first axis runs to the right, the second upwards.

    Args:
        taken: what `steps` returns.
        modalities: the channels by name.
        convention: of the label, if there is one.
        title: of the figure.
    """
    rows = [*modalities, *(["label"] if taken[0].label is not None else [])]
    height = 1.5 + len(rows) * (0.25 + 0.95 * (WIDTH - 1) / (len(taken) + 1))
    figure = Figure(figsize=(WIDTH, height), facecolor=PAPER, layout="constrained")
    axes = figure.subplots(len(rows), len(taken), squeeze=False)
    place = centre_of_lesion(taken[-1])
    for column, step in enumerate(taken):
        axes[0, column].set_title(_title(step, column), color=INK, fontsize=8.5, linespacing=1.35)
        for row, name in enumerate(rows):
            axis = axes[row, column]
            _show(axis, step, min(row, len(modalities) - 1) if name != "label" else 0, taken[0], place)
            if name == "label":
                _paint(axis, step, place, convention or "")
            if column + 1 < len(taken):
                _outline(axis, step, taken[column + 1])
            _name_axes(axis, step)
        axes[-1, column].set_xlabel(_axis_name(step, 0), color=INK, fontsize=8.5)
    for row, name in enumerate(rows):
        shown = f"label on {modalities[0]}" if name == "label" else name
        axes[row, 0].set_ylabel(f"{shown}\n{_axis_name(taken[0], 1)}", color=INK, fontsize=9)
    _explain(figure, axes, taken, convention, title)
    return figure


def centre_of_lesion(step: Step) -> np.ndarray:
    """World position of the middle of the lesion's largest slice, or of the volume if it has no lesion, mm."""
    x, y, z = step.image.shape[1:]
    voxel = np.array([x / 2, y / 2, z // 2])
    if step.label is not None and step.label.any():
        lesion = np.asarray(step.label.any(axis=0))
        number = lesion.sum(axis=(0, 1)).argmax()
        voxel = np.array([*np.argwhere(lesion[:, :, number]).mean(axis=0), number])
    return nib.affines.apply_affine(step.affine, voxel)


def slice_through(step: Step, place: np.ndarray) -> int:
    """Index of the slice through a world position, or of the nearest slice."""
    voxel = nib.affines.apply_affine(np.linalg.inv(step.affine), place)
    return int(np.clip(round(voxel[2]), 0, step.image.shape[3] - 1))


def _show(axis: Any, step: Step, channel: int, first: Step, place: np.ndarray) -> None:
    low, high = Z_RANGE if step.normalised else (0.0, float(np.percentile(first.image[channel], 99.8)))
    pixels = step.image[channel, :, :, slice_through(step, place)].T
    axis.imshow(pixels, cmap="gray", vmin=low, vmax=high, origin="lower", interpolation="nearest")


def _paint(axis: Any, step: Step, place: np.ndarray, convention: str) -> None:
    """Regions over the image, the inner ones on top."""
    assert step.label is not None
    slices = step.label[:, :, :, slice_through(step, place)]
    known = regions_of(convention)
    masks = slices > 0 if len(slices) == len(known) else [np.isin(slices[0], [*values]) for values in known.values()]
    shades = [to_rgb(colours(convention)[name]) for name in known]
    for channel, _ in painting_order(convention):
        picture = np.zeros((*masks[channel].T.shape, 4))
        picture[masks[channel].T] = (*shades[channel], 1)
        axis.imshow(picture, origin="lower", interpolation="nearest")


def _outline(axis: Any, step: Step, following: Step) -> None:
    """Outline of the next step's volume, if its shape differs."""
    x, y, z = following.image.shape[1:]
    corners = np.array([[0, 0], [x, 0], [x, y], [0, y]]) - 0.5
    inverse = np.linalg.inv(step.affine) @ following.affine
    edge = nib.affines.apply_affine(inverse, np.column_stack([corners, np.full(4, z / 2)]))[:, :2]
    if following.image.shape != step.image.shape:
        axis.add_patch(Polygon(edge, fill=False, edgecolor=BOX, linewidth=1.1, linestyle="--", clip_on=True))


def _title(step: Step, column: int) -> str:
    """Name of the step, shape in voxels and voxel size."""
    done = "as on disk" if column == 0 else "\n".join(textwrap.wrap(step.name, 23, break_long_words=False))
    shape = " × ".join(map(str, step.image.shape[1:]))
    size = " × ".join(f"{edge:.3g}" for edge in step.voxel_size)
    return "\n".join([done, *(["(nothing to do here)"] if step.idle else []), f"{shape} voxels", f"{size} mm"])


def _axis_name(step: Step, number: int) -> str:
    """The direction of an array axis in the body."""
    return f"axis {number} → {nib.aff2axcodes(step.affine)[number]}"


def _name_axes(axis: Any, step: Step) -> None:
    x, y = step.image.shape[1:3]
    axis.set_xlim(-0.5, x - 0.5)
    axis.set_ylim(-0.5, y - 0.5)
    axis.set_xticks([0, x - 1])
    axis.set_yticks([0, y - 1])
    axis.tick_params(colors=INK, labelsize=7.5, length=2)
    axis.set_ylabel(_axis_name(step, 1), color=INK, fontsize=8.5)
    for spine in axis.spines.values():
        spine.set_color("#555555")


def _explain(figure: Figure, axes: np.ndarray, taken: Sequence[Step], convention: str | None, title: str) -> None:
    """Title, colour bar of the z-scores, legend."""
    figure.suptitle(title, color=INK, fontsize=11)
    scale = ScalarMappable(Normalize(*Z_RANGE), "gray")
    normalised = [column for column, step in enumerate(taken) if step.normalised]
    if normalised:
        bar = figure.colorbar(scale, ax=axes[:, normalised], shrink=0.9, aspect=30, pad=0.02)
        bar.set_label("z-score (0: background, and the mean of the brain)", color=INK, fontsize=8.5)
        bar.ax.tick_params(colors=INK, labelsize=8)
    handles: list[Any] = [Line2D([], [], color=BOX, linestyle="--", label="what the next step takes")]
    if taken[0].label is not None and convention:
        handles += [Patch(color=colours(convention)[name], label=name) for name in regions_of(convention)]
    legend = figure.legend(
        handles=handles, loc="outside lower center", ncols=len(handles), labelcolor=INK, fontsize=8.5
    )
    legend.set_frame_on(False)


def save(figure: Figure, path: Path, transforms: str) -> None:
    """Save a small PNG with few colours; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS, facecolor=figure.get_facecolor())
    greys = [(level, level, level) for level in np.linspace(0, 1, GREYS)]
    shown = [*greys, *map(to_rgb, (colours("brats2021") | colours("atlas")).values())]
    palette = Image.new("P", (1, 1))
    palette.putpalette([round(255 * value) for colour in shown for value in colour])
    picture = Image.open(buffer).convert("RGB").quantize(palette=palette, dither=Image.Dither.NONE)
    text = PngImagePlugin.PngInfo()
    text.add_text("transforms", transforms)
    with atomic_write(path) as file:
        picture.save(file, format="png", optimize=True, pnginfo=text)
