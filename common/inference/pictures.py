"""Draw figures of panels (`common.inference.panels`), such as a network's input, target and output."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from ..data.regions import colours, painting_order, regions_of
from ..data.transforms import ToRASd
from ..drawing import Figure, Patch, new_figure
from .panels import PLANES, SIDES, centre_of, grey_levels, panel, plane_of

INK, PAPER = "#e8e8e8", "#111111"
FILLED = 0.65  # opacity of a mask


def figure_of(
    rows: Mapping[str, Sequence[NDArray[Any]]],
    titles: Sequence[str] = (),
    legend: Mapping[str, str] | None = None,
    title: str = "",
    inches: float = 1.7,
) -> Figure:
    """Return a figure with panels in labelled rows.

    `rows` maps labels to panels, `titles` are those of the columns, and `legend` maps names to colours. `inches` is the
    edge of a panel. Rows labelled with a plane have the patient's sides in the upper corners of their panels.
    """
    columns = max(map(len, rows.values()))
    size = (inches * columns, inches * len(rows) + 0.6)
    with new_figure(figsize=size, facecolor=PAPER, layout="constrained") as figure:
        axes = figure.subplots(len(rows), columns, squeeze=False)
        for row, (label, panels) in zip(axes, rows.items(), strict=True):
            for axis, pixels in zip(row, panels, strict=True):
                axis.imshow(pixels)
                axis.set(xticks=[], yticks=[], frame_on=False)
                for side, position in zip(SIDES.get(label, ""), (0.04, 0.96), strict=False):
                    style: Any = {"color": INK, "fontsize": 8, "ha": "center", "va": "top"}
                    axis.text(position, 0.97, side, transform=axis.transAxes, **style)
            row[0].set_ylabel(label, color=INK, fontsize=8)
        for axis, name in zip(axes[0], titles, strict=False):
            axis.set_title(name, color=INK, fontsize=8)
        if legend:
            handles = [Patch(color=colour, label=name) for name, colour in legend.items()]
            style = {"ncols": min(len(handles), 6), "labelcolor": INK, "fontsize": 8, "frameon": False}
            figure.legend(handles=handles, loc="outside lower center", **style)
        if title:
            figure.suptitle(title, color=INK, fontsize=9)
        return figure


def draw_inpainting(output: Mapping[str, Any], batch: Any = None, *, modalities: Sequence[str]) -> dict[str, Figure]:
    """Draw the middle axial slice of a batch's first crops: corrupted input, reconstruction and clean crop.

    Each modality of a view is a row; a figure has at most three views and six rows, or the modalities of a single view.
    Each prediction with the image's shape, such as that of `common.ssl.Reconstruction`, is a column.

    Args:
        output: Output of an engine that runs a `common.ssl.SSLHead`.
        batch: Unused; `common.training.Pictures` passes it.
        modalities: Names of the input channels.

    Returns:
        The figure by its name, "inpainting"; empty without a prediction of the image's shape.
    """
    restored = {name: volume for name, volume in output["pred"].items() if volume.shape == output["image"].shape}
    if not restored:
        return {}
    columns = {"corrupted input": output["image"], **restored, "clean crop": output["label"]["clean"]}
    views = min(3, max(1, 6 // len(modalities)))
    volumes = [volume[:views].detach().float().cpu().numpy() for volume in columns.values()]
    clean = volumes[-1]
    rows = {
        f"crop {i + 1}, {name}": [
            panel(grey_levels(volume[i, channel], clean[i, channel]), "axial", volume.shape[-1] // 2)
            for volume in volumes
        ]
        for i in range(len(clean))
        for channel, name in enumerate(modalities)
    }
    return {"inpainting": figure_of(rows, list(columns))}


def draw_segmentations(
    outputs: Sequence[Mapping[str, Any]],
    batch: Sequence[Mapping[str, Any]],
    modalities: Sequence[str],
    convention: str,
    name: str | None = None,
) -> dict[str, Figure]:
    """Draw input, reference and prediction of each case, in three planes through the lesion (see `centre_of`).

    The lesion is that of the reference or, if the reference is empty, that of the prediction.

    Args:
        outputs: Decollated outputs: "image" [C, H, W, D], "label" and "pred" [R, H, W, D] of 0 and 1.
        batch: Decollated items; "subject" titles the figure.
        modalities: Names of the input channels; the first two present in the case are drawn.
        convention: Label convention of the regions.
        name: Name of the figure; None: that of the subject.

    Returns:
        The figures by name.
    """
    return {
        name or item["subject"]: _draw_case(output, modalities, convention, item["subject"])
        for output, item in zip(outputs, batch, strict=True)
    }


def _draw_case(output: Mapping[str, Any], modalities: Sequence[str], convention: str, title: str) -> Figure:
    image, truth, prediction = (_array(output[key]) for key in ("image", "label", "pred"))
    shown = [channel for channel in range(len(modalities)) if image[channel].any()][:2] or [0]
    levels = [grey_levels(image[channel]) for channel in shown]
    centre = centre_of(np.any(truth if truth.any() else prediction, axis=0))
    rows = {}
    for plane, at in zip(PLANES, centre[::-1], strict=True):
        panels = [panel(volume, plane, at) for volume in levels]
        filled = [_filled(panels[0], mask, convention, plane, at) for mask in (truth, prediction)]
        rows[plane] = [*panels, *filled]
    titles = [*(modalities[channel] for channel in shown), "reference", "prediction"]
    return figure_of(rows, titles, colours(convention), title)


def _filled(pixels: NDArray[np.uint8], masks: NDArray[Any], convention: str, plane: str, at: int) -> NDArray[np.uint8]:
    """Return a panel with masks [R, x, y, z] in colour, inner regions on top."""
    picture = pixels.astype(float)
    shades = [np.array([*bytes.fromhex(colours(convention)[name][1:])]) for name in regions_of(convention)]
    for channel, _ in painting_order(convention):
        inside = plane_of(masks[channel], plane, at) > 0
        picture[inside] = (1 - FILLED) * pixels[inside] + FILLED * shades[channel]
    return picture.astype(np.uint8)


def _array(volume: torch.Tensor) -> NDArray[Any]:
    """Return a volume [C, H, W, D], reoriented to RAS if it has an affine."""
    turned = ToRASd("volume")({"volume": volume})["volume"] if isinstance(volume, MetaTensor) else volume
    return np.asarray(turned.detach().float().cpu())
