"""One vector for each volume, for linear probes and retrieval: what a pretrained encoder says of a brain as a whole."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from matplotlib.figure import Figure
from monai.data import MetaTensor
from monai.data.utils import dense_patch_slices
from monai.inferers import Inferer
from monai.transforms import CenterSpatialCrop
from torch import nn
from torch.nn.functional import avg_pool3d

from common.files import whole
from common.pictures import draw_inpainting
from common.preflight import InputError, check_number, chosen
from common.views import corrupt

__all__ = ["EmbeddingFile", "EmbeddingInferer", "Inpainting"]

Encoder = Callable[[torch.Tensor], Sequence[torch.Tensor]]


class EmbeddingInferer(Inferer):
    """The mean of an encoder's features over the brain, from windows that slide over the volume.

    Foreground is what is not 0 in some channel. Each foreground voxel stands for the features of the token that it
    lies in, averaged over the windows that hold the voxel; the vector of a level is the mean over all foreground
    voxels. Each of them counts once: neither the background, nor zeros around a volume, nor how windows overlap gives
    some part of the brain more weight. (Background still reaches a token through attention, as it does in training.)

    Args:
        roi_size: edges of a window in voxels, those of a training crop.
        overlap: of neighbouring windows, as a share of the window.
        sw_batch_size: windows that the encoder takes at a time.
        levels: whether each level's vector is given, or the deepest level's alone.

    Shapes:
        inputs [1, C, H, W, D], no edge shorter than the window's; the network maps windows [N, C, *roi_size] to the
        feature maps of L levels, each [N, C_l, *(roi_size / stride_l)], as `SSLHead.swinViT` does (L = 5, strides 2, 4,
        8, 16 and 32). Output {"embedding": [1, C_L]} and, with `levels`, "level_0": [1, C_1] to "level_4": [1, C_L]
        besides, float32.

    Raises:
        ValueError: there is no foreground, or the volume is smaller than a window.

    Example:
        >>> from common.networks import SSLHead
        >>> encoder = SSLHead(in_channels=1, model_size="micro").eval().swinViT
        >>> with torch.no_grad():
        ...     EmbeddingInferer((64, 64, 64))(torch.ones(1, 1, 64, 64, 64), encoder)["embedding"].shape
        torch.Size([1, 192])
    """

    def __init__(
        self, roi_size: Sequence[int], overlap: float = 0.5, sw_batch_size: int = 2, levels: bool = False
    ) -> None:
        super().__init__()
        self.roi_size, self.overlap, self.sw_batch_size, self.levels = tuple(roi_size), overlap, sw_batch_size, levels

    def __call__(self, inputs: torch.Tensor, network: Encoder, *_: Any, **__: Any) -> dict[str, torch.Tensor]:
        image = _plain(inputs)
        sides = tuple(image.shape[2:])
        if len(image) != 1 or any(side < edge for side, edge in zip(sides, self.roi_size, strict=True)):
            raise ValueError(f"inputs {list(image.shape)}: expected one volume, no edge below {list(self.roi_size)}")
        foreground = (image != 0).any(dim=1, keepdim=True).double()  # [1, 1, H, W, D]
        if not foreground.any():
            raise ValueError(f"inputs {list(image.shape)}: zero everywhere; expected a brain")
        steps = tuple(max(1, int(edge * (1 - self.overlap))) for edge in self.roi_size)
        windows = [(..., *place) for place in dense_patch_slices(sides, self.roi_size, steps)]
        windows = [place for place in windows if foreground[place].any()]
        weight = foreground / _coverage(foreground, windows)  # of a voxel, in each of the windows that hold it
        sums: list[torch.Tensor] = []
        for first in range(0, len(windows), self.sw_batch_size):
            places = windows[first : first + self.sw_batch_size]
            maps = network(torch.cat([image[place] for place in places]))
            weights = torch.cat([weight[place] for place in places])
            parts = [_weighted_sum(features, weights) for features in maps]
            sums = [total + part for total, part in zip(sums, parts, strict=True)] if sums else parts
        vectors = [(total / foreground.sum()).float()[None] for total in sums]
        named = {f"level_{number}": vector for number, vector in enumerate(vectors)} if self.levels else {}
        return {"embedding": vectors[-1]} | named


def _plain(volume: torch.Tensor) -> torch.Tensor:
    return volume.as_tensor() if isinstance(volume, MetaTensor) else volume


def _coverage(like: torch.Tensor, windows: Sequence[tuple[Any, ...]]) -> torch.Tensor:
    """How many windows hold each voxel; 1 where none does, as there is no foreground then."""
    count = torch.zeros_like(like)
    for place in windows:
        count[place] += 1
    return count.clamp(min=1)


def _weighted_sum(features: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Features [N, C, h, w, d] times the weight of all voxels [N, 1, H, W, D] of their tokens, summed up: [C]."""
    stride = [voxels // tokens for voxels, tokens in zip(weights.shape[2:], features.shape[2:], strict=True)]
    of_token = avg_pool3d(weights, stride) * np.prod(stride)
    return (features.double() * of_token).sum(dim=(0, 2, 3, 4))


class EmbeddingFile:
    """Gather the vectors of a run and write them to `OUTPUT_DIR/embeddings.npz` at its end, whole or not at all.

    Its arrays are "subject" [N] (text, in alphabetical order), "embedding" [N, C], "level_0" to "level_4" [N, C_l]
    where the run has them, all float32, and "settings", a text in JSON that says what made them. Nothing is pickled:
    `numpy.load` reads it as it is.

    Args:
        output_dir: folder of the file.
        settings: that are kept with the vectors, for those of two networks are not to be mixed.
        existing: what becomes of a file that is there: refuse or replace.

    The engine's output is decollated: "pred" as `EmbeddingInferer` gives it, without the first axis; its batch has
    "subject". Where no subject has a vector nothing is written.

    Raises:
        InputError: the file cannot be written, or is there and not to be replaced.
    """

    def __init__(self, output_dir: str, settings: Mapping[str, Any], existing: str = "refuse") -> None:
        self.path, self.settings = Path(output_dir) / "embeddings.npz", dict(settings)
        may_replace = chosen("existing", existing, {"refuse": False, "replace": True})
        if self.path.exists() and not may_replace:
            raise InputError(f"{self.path}: is there already; expected --existing=replace, or another --output_dir")
        self.vectors: dict[str, dict[str, np.ndarray]] = {}

    def attach(self, engine: Engine) -> None:
        """Gather what `engine` puts out."""
        engine.add_event_handler(Events.STARTED, lambda: self.vectors.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._gather)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _gather(self, engine: Engine) -> None:
        for output, item in zip(engine.state.output, engine.state.batch if engine.state.output else [], strict=True):
            self.vectors[item["subject"]] = {name: value.cpu().numpy() for name, value in output["pred"].items()}

    def _write(self) -> None:
        if not self.vectors:
            return
        subjects = sorted(self.vectors)
        arrays: dict[str, Any] = {
            name: np.stack([self.vectors[subject][name] for subject in subjects]) for name in self.vectors[subjects[0]]
        }
        settings = json.dumps(self.settings, sort_keys=True)
        with whole(self.path) as temporary, temporary.open("wb") as file:
            np.savez(file, subject=np.array(subjects), settings=np.array(settings), **arrays)
        print(f"{self.path}: {len(subjects)} subjects, vectors of {arrays['embedding'].shape[1]} values", flush=True)


class Inpainting:
    """Draw what a network inpaints of the first subjects of a run: the `draw` of `common.handlers.Pictures`.

    A subject's crop is the middle of its volume. It gets the same boxes of noise each time, whoever comes before.

    Args:
        network: a `common.networks.SSLHead`, in evaluation mode when pictures are drawn.
        modalities: its input channels by name.
        roi_size: edges of the crop in voxels.
        subjects: how many are drawn.

    Raises:
        InputError: `subjects` is no number from 0.
    """

    SEED = 3  # its boxes cover about a fifth of a crop

    def __init__(self, network: nn.Module, modalities: Sequence[str], roi_size: Sequence[int], subjects: int) -> None:
        check_number("pictures", subjects, int, 0)
        self.network, self.modalities, self.left = network, modalities, subjects
        self.crop = CenterSpatialCrop(roi_size)

    def __call__(self, outputs: Sequence[Mapping[str, Any]], batch: Sequence[Mapping[str, Any]]) -> dict[str, Figure]:
        figures = {}
        for output, item in zip(outputs, batch if outputs else [], strict=True):
            if self.left > 0:
                self.left -= 1
                figures[item["subject"]] = self._draw(output["image"])
        return figures

    def _draw(self, image: torch.Tensor) -> Figure:
        clean = _plain(self.crop(image))[None]
        corrupted = corrupt(clean, torch.Generator().manual_seed(self.SEED))
        with torch.no_grad():
            prediction = self.network(corrupted)
        seen = {"image": corrupted, "pred": prediction, "label": {"reconstruction": clean}}
        return draw_inpainting(seen, self.modalities)["inpainting"]
