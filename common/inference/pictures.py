"""Figures of a network's input, target and output.

Slices follow the radiological convention: the patient's right is on the left of the picture.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from monai.data import MetaTensor
from monai.transforms import Orientation

from ..data.regions import colours, painting_order, regions_of

__all__ = ["PLANES", "centre_of", "draw_inpainting", "draw_segmentations", "plane_of"]

INK, PAPER = "#e8e8e8", "#111111"
PLANES = ("axial", "coronal", "sagittal")


def draw_inpainting(
    output: Mapping[str, Any], batch: Any = None, *, modalities: Sequence[str], samples: int = 3
) -> dict[str, Figure]:
    """Draw the corrupted input, what was made of it, and the clean crop, of the first views of a batch.

    Each modality of a view is a row; with many modalities fewer views are drawn, for about six rows in total. Each
    prediction of the image's shape is a column, such as that of `common.ssl.Reconstruction`; without any, nothing is
    drawn.

    Args:
        output: of an engine whose network is a `common.ssl.SSLHead`.
        batch: not used; `common.training.Pictures` passes it.
        modalities: names of the input channels.
        samples: the largest number of views.
    """
    restored = {name: volume for name, volume in output["pred"].items() if volume.shape == output["image"].shape}
    if not restored:
        return {}
    columns = {"corrupted input": output["image"], **restored, "clean crop": output["label"]["clean"]}
    samples = min(samples, max(1, 6 // len(modalities)))
    volumes = {name: volume[:samples].detach().float().cpu().numpy() for name, volume in columns.items()}
    clean = volumes["clean crop"]
    rows = [(i, channel) for i in range(len(clean)) for channel in range(len(modalities))]
    figure, axes = _grid(len(rows), len(columns), tuple(columns))
    for row, (i, channel) in zip(axes, rows, strict=True):
        window = _window(clean[i, channel])
        for axis, volume in zip(row, volumes.values(), strict=True):
            _show(axis, plane_of(volume[i, channel], "axial", volume.shape[-1] // 2), window)
        row[0].set_ylabel(f"crop {i + 1}, {modalities[channel]}", color=INK, fontsize=8)
    return {"inpainting": figure}


def draw_segmentations(
    outputs: Sequence[Mapping[str, Any]],
    batch: Sequence[Mapping[str, Any]],
    modalities: Sequence[str],
    convention: str,
    name: str | None = None,
) -> dict[str, Figure]:
    """Draw input, truth and prediction of each case, in three planes through the lesion's largest axial slice.

    Args:
        outputs: decollated; "image" [C, H, W, D], "label" and "pred" [R, H, W, D] of 0 and 1.
        batch: the decollated items, with the "subject" that names the figure.
        modalities: names of the input channels; the first two that the case has are drawn.
        convention: label convention of the regions.
        name: of the figure; by default the subject's.
    """
    return {
        name or item["subject"]: _draw_case(output, modalities, convention, item["subject"])
        for output, item in zip(outputs, batch, strict=True)
    }


def _draw_case(output: Mapping[str, Any], modalities: Sequence[str], convention: str, title: str) -> Figure:
    image, truth, prediction = (_array(output[key]) for key in ("image", "label", "pred"))
    shown = [channel for channel in range(len(modalities)) if image[channel].any()][:2] or [0]
    image, modalities = image[shown], [modalities[channel] for channel in shown]
    centre = centre_of(truth if truth.any() else prediction)
    figure, axes = _grid(3, len(modalities) + 2, (*modalities, "truth", "prediction"))
    for row, plane in zip(axes, PLANES, strict=True):
        at = centre[2 - PLANES.index(plane)]
        slices = [plane_of(channel, plane, at) for channel in image]
        for axis, pixels, channel in zip(row, slices, image, strict=False):  # the row has two more
            _show(axis, pixels, _window(channel))
        for axis, mask in zip(row[-2:], (truth, prediction), strict=True):
            _show(axis, slices[0], _window(image[0]))
            axis.imshow(_overlay([plane_of(region, plane, at) for region in mask], convention), origin="lower")
        row[0].set_ylabel(plane, color=INK, fontsize=8)
    handles = [Patch(color=colours(convention)[name], label=name) for name in regions_of(convention)]
    columns = min(len(handles), 6)
    legend = figure.legend(handles=handles, loc="outside lower center", ncols=columns, labelcolor=INK, fontsize=8)
    legend.set_frame_on(False)
    figure.suptitle(title, color=INK, fontsize=9)
    return figure


def _array(volume: torch.Tensor) -> np.ndarray:
    """[C, H, W, D], turned to RAS orientation if the volume has an affine."""
    turned = Orientation("RAS", labels=None)(volume) if isinstance(volume, MetaTensor) else volume
    return np.asarray(turned.detach().float().cpu())


def centre_of(mask: np.ndarray) -> tuple[int, int, int]:
    """The middle (x, y, z) of a mask [R, H, W, D] in its largest axial slice; if it is empty, the volume's middle."""
    union = np.asarray(mask.any(axis=0))
    if not union.any():
        x, y, z = (side // 2 for side in union.shape)
        return x, y, z
    z = int(union.sum(axis=(0, 1)).argmax())
    x, y = (int(np.median(indices)) for indices in np.nonzero(union[:, :, z]))
    return x, y, z


def plane_of(volume: np.ndarray, plane: str, at: int) -> np.ndarray:
    """A slice [rows, columns] of a volume [x, y, z], for `imshow(origin="lower")`; x is mirrored, as in radiology."""
    if plane == "sagittal":
        return volume[at].T
    return (volume[::-1, :, at] if plane == "axial" else volume[::-1, at]).T


def _window(volume: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(volume[volume != 0] if volume.any() else volume, (1, 99.5))
    return float(low), float(max(high, low + 1e-6))


def _grid(rows: int, columns: int, titles: Sequence[str]) -> tuple[Figure, np.ndarray]:
    figure = Figure(figsize=(1.7 * columns, 1.6 * rows + 0.6), facecolor=PAPER, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, color=INK, fontsize=8)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
        axis.set_facecolor("black")
        for spine in axis.spines.values():
            spine.set_visible(False)
    return figure, axes


def _show(axis: Any, pixels: np.ndarray, window: tuple[float, float]) -> None:
    """Draw a slice; background, which is exactly 0 after the z-score, is black."""
    low, high = window
    axis.imshow(np.where(pixels == 0, low, pixels), cmap="gray", vmin=low, vmax=high, origin="lower")


def _overlay(masks: Sequence[np.ndarray], convention: str) -> np.ndarray:
    """An RGBA picture of masks in channel order; of nested regions the inner one is on top."""
    picture = np.zeros((*masks[0].shape, 4))
    shades = [to_rgb(colours(convention)[name]) for name in regions_of(convention)]
    for channel, _ in painting_order(convention):
        picture[masks[channel] > 0] = (*shades[channel], 0.65)
    return picture
