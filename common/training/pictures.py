"""Pictures of a network's input, target and output, as RGB pixels; TensorBoard shows them.

Slices follow the radiological convention: the patient's right, or anterior, is on the left of the picture.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import ignite.distributed as idist
import numpy as np
from ignite.engine import Engine, Events
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ..data.regions import colours, painting_order, regions_of
from ..errors import one_line, show
from ..files import atomic_write

SIDES = {"axial": "RL", "coronal": "RL", "sagittal": "AP"}  # the patient's sides on the left and right of the picture
PLANES = tuple(SIDES)
FILLED = 0.65  # opacity of a mask
EDGE, LINE = 200, 14  # pixels: least edge of a panel, height of a line of text

Pixels = NDArray[np.uint8]  # [rows, columns, 3]


class Pictures:
    """Handler that draws the last batch of a validation, as a PNG file and in TensorBoard.

    `draw` is a function from the engine's output to RGB pixels by name. `epoch_length` makes TensorBoard's steps count
    iterations. A failed picture does not end the run; a line reports it.
    """

    def __init__(self, output_dir: str, draw: Callable[[Any], Mapping[str, Pixels]], epoch_length: int) -> None:
        self.folder, self.draw, self.epoch_length = Path(output_dir), draw, epoch_length

    def attach(self, engine: Engine) -> None:
        if idist.get_rank() == 0:
            engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        from torch.utils.tensorboard import SummaryWriter  # imported here because it is slow

        try:
            with SummaryWriter(self.folder / "tensorboard" / "pictures") as writer:
                for name, pixels in self.draw(engine.state.output).items():
                    with atomic_write(self.folder / "pictures" / f"{name}.png") as file:
                        Image.fromarray(pixels).save(file, format="PNG")
                    writer.add_image(name, pixels, engine.state.epoch * self.epoch_length, dataformats="HWC")
        except Exception as error:
            show(f"warning: {self.folder / 'pictures'}: not drawn: {one_line(error)}", error=True)


def window_of(volume: NDArray[Any]) -> tuple[float, float]:
    """Return the intensities drawn black and white: percentiles 0.5 and 99.8 of finite non-zero voxels, or 0 and 1."""
    voxels = volume[np.isfinite(volume) & (volume != 0)]
    low, high = np.percentile(voxels, (0.5, 99.8)) if voxels.size else (0.0, 1.0)
    return float(low), float(max(high, low + 1e-6))


def grey_levels(volume: NDArray[Any], like: NDArray[Any] | None = None) -> NDArray[np.uint8]:
    """Return grey levels, 0 to 255, by `window_of(like)` (default: the volume); 0 and non-finite voxels are black."""
    low, high = window_of(volume if like is None else like)
    shown = np.where(np.isfinite(volume) & (volume != 0), volume, low)
    return np.asarray(np.clip((shown - low) / (high - low), 0, 1) * 255, dtype=np.uint8)


def plane_of(volume: NDArray[Any], plane: str, at: int) -> NDArray[Any]:
    """Return a slice of a volume [x, y, z] in RAS orientation as displayed: [rows, columns], the top row first."""
    return np.asarray(volume).take(at, axis=2 - PLANES.index(plane)).T[::-1, ::-1]


def centre_of(mask: NDArray[Any]) -> tuple[int, int, int]:
    """Return the median voxel (x, y, z) of a mask in its largest axial slice; the volume's centre for an empty mask."""
    if not mask.any():
        x, y, z = (side // 2 for side in mask.shape)
        return x, y, z
    z = int(mask.sum(axis=(0, 1)).argmax())
    x, y = (int(np.median(indices)) for indices in np.nonzero(mask[:, :, z]))
    return x, y, z


def draw_inpainting(output: Mapping[str, Any], modalities: Sequence[str]) -> dict[str, Pixels]:
    """Draw the middle axial slice of a batch's first crop: corrupted input, reconstruction and clean crop.

    `output` is that of an engine that runs a `common.ssl.SSLHead`. Each modality is a row, each prediction with the
    image's shape a column; there is no picture without such a prediction.
    """
    restored = {name: volume for name, volume in output["pred"].items() if volume.shape == output["image"].shape}
    if not restored:
        return {}
    columns = {"corrupted input": output["image"], **restored, "clean crop": output["label"]["clean"]}
    volumes = [volume[0].detach().float().cpu().numpy() for volume in columns.values()]
    middle, rows = volumes[-1].shape[-1] // 2, {}
    for channel, modality in enumerate(modalities):
        levels = [grey_levels(volume[channel], like=volumes[-1][channel]) for volume in volumes]
        rows[modality] = [plane_of(volume, "axial", middle) for volume in levels]
    return {"inpainting": joined(rows, list(columns))}


def draw_segmentation(
    outputs: Sequence[Mapping[str, Any]], modalities: Sequence[str], convention: str
) -> dict[str, Pixels]:
    """Draw each modality of a batch's first case, the reference and the prediction, in an axial slice (`centre_of`).

    The slice is that of the reference or, if the reference is empty, of the prediction.

    Shapes:
        decollated outputs: "image" [C, H, W, D], "label" and "pred" [R, H, W, D] of 0 and 1, in RAS orientation.
    """
    image, truth, prediction = (outputs[0][key].detach().float().cpu().numpy() for key in ("image", "label", "pred"))
    _, _, at = centre_of(np.any(truth if truth.any() else prediction, axis=0))
    panels = [plane_of(grey_levels(volume), "axial", at) for volume in image]
    grey, shades, regions = panels[0][..., None], colours(convention), [*regions_of(convention)]
    for masks in (truth, prediction):
        filled = np.repeat(grey, 3, axis=-1).astype(float)
        for channel, _ in painting_order(convention):  # inner regions on top
            inside = plane_of(masks[channel], "axial", at) > 0
            shade = np.array([*bytes.fromhex(shades[regions[channel]][1:])])
            filled[inside] = (1 - FILLED) * grey[inside] + FILLED * shade
        panels.append(filled.astype(np.uint8))
    return {"validation": joined({"axial, R to L": panels}, [*modalities, "reference", "prediction"], shades)}


def joined(
    rows: Mapping[str, Sequence[NDArray[np.uint8]]],
    titles: Sequence[str] = (),
    legend: Mapping[str, str] = MappingProxyType({}),
    title: str = "",
) -> Pixels:
    """Join labelled rows of panels (grey or RGB) on black, with titles of columns and a legend of colours."""
    longest = max(max(pixels.shape) for panels in rows.values() for pixels in panels)
    scale = -(-EDGE // longest)
    edge, columns = scale * longest, max(map(len, rows.values()))
    canvas = Image.new("RGB", (edge * columns, LINE + (LINE + edge) * len(rows) + LINE))
    draw, left = ImageDraw.Draw(canvas), 2.0
    draw.text((left, 0), title)
    for row, (label, panels) in enumerate(rows.items()):
        top = LINE + (LINE + edge) * row
        for column, pixels in enumerate(panels):
            words = [*([label] if column == 0 else []), *titles[column : column + 1]]
            draw.text((edge * column + 2, top), ": ".join(words))
            enlarged = Image.fromarray(pixels.repeat(scale, axis=0).repeat(scale, axis=1))
            canvas.paste(enlarged, (edge * column, top + LINE))
    for name, colour in legend.items():
        draw.text((left, canvas.height - LINE), name, colour)
        left += draw.textlength(name) + LINE
    return np.asarray(canvas)
