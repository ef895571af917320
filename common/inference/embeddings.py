"""The output of an embedding run: a file of vectors, and pictures of the reconstruction."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from matplotlib.figure import Figure
from monai.transforms import CenterSpatialCrop
from torch import nn

from ..errors import InputError, check_number, choice
from ..files import atomic_write
from ..ssl.views import corrupt
from .pictures import draw_inpainting
from .segmentations import subjects_of


class EmbeddingFile:
    """Collect the vectors of a run and write them atomically to `OUTPUT_DIR/embeddings.npz` when it ends.

    The arrays are "subject" [N] (text, in alphabetical order), "split" [N] (text), "embedding" [N, C], "level_0" to
    "level_4" [N, C_l] if the run has them, vectors in float32, and "settings", JSON text. Nothing is pickled:
    `numpy.load` needs no options.

    The engine's output is decollated: "pred" is the output of `EmbeddingInferer` without its first axis; the batch has
    "subject". Without any vector, no file is written.

    Args:
        output_dir: Folder of the file.
        settings: Settings of the run, saved with the vectors to identify the network.
        existing: Treatment of an existing file: refuse or replace.
        splits: Split of each subject; None leaves out "split".

    Raises:
        InputError: the file cannot be written, or exists and may not be replaced.
    """

    def __init__(
        self,
        output_dir: str,
        settings: Mapping[str, Any],
        existing: str = "refuse",
        splits: Mapping[str, str] | None = None,
    ) -> None:
        self.path, self.settings, self.splits = Path(output_dir) / "embeddings.npz", dict(settings), splits
        may_replace = choice("existing", existing, {"refuse": False, "replace": True})
        if self.path.exists() and not may_replace:
            raise InputError(f"{self.path}: exists already; expected existing=replace, or another output_dir")
        self.vectors: dict[str, dict[str, np.ndarray]] = {}

    def attach(self, engine: Engine) -> None:
        """Collect the output of `engine`."""
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
        if self.splits is not None:
            arrays["split"] = np.array([self.splits[subject] for subject in subjects])
        settings = json.dumps(self.settings, sort_keys=True)
        with atomic_write(self.path) as temporary, temporary.open("wb") as file:
            np.savez(file, subject=np.array(subjects), settings=np.array(settings), **arrays)

    def figures(self, engine: Engine) -> list[str]:
        """The number of subjects and of values; empty without vectors."""
        if not self.vectors:
            return []
        values = len(next(iter(self.vectors.values()))["embedding"])
        return [f"{subjects_of(self.vectors, engine)} embedded: vectors of {values} values"]


class Inpainting:
    """Draw a network's reconstructions of corrupted crops: the `draw` of `common.training.Pictures`.

    The crop is the centre of a volume. Every crop gets the same boxes of noise, whatever the order of subjects.

    Args:
        network: A `common.ssl.SSLHead`, in evaluation mode when pictures are drawn.
        modalities: Names of the input channels.
        roi_size: Edges of the crop in voxels.
        subjects: Number of subjects to draw, from the first of the run.

    Raises:
        ArgumentError: `subjects` is not a whole number from 0.
    """

    SEED = 3  # a seed whose boxes cover about a fifth of a crop

    def __init__(self, network: nn.Module, modalities: Sequence[str], roi_size: Sequence[int], subjects: int) -> None:
        check_number("pictures", subjects, int, 0)
        self.network, self.modalities, self.left = network, modalities, subjects
        self.crop = CenterSpatialCrop(roi_size)

    def __call__(self, outputs: Sequence[Mapping[str, Any]], batch: Sequence[Mapping[str, Any]]) -> dict[str, Figure]:
        figures: dict[str, Figure] = {}
        for output, item in zip(outputs, batch if outputs else [], strict=True):
            if self.left > 0:
                self.left -= 1
                figures.update((item["subject"], figure) for figure in self._draw(output["image"]))
        return figures

    def _draw(self, image: torch.Tensor) -> list[Figure]:
        clean = torch.as_tensor(self.crop(image))[None]
        corrupted = corrupt(clean, torch.Generator().manual_seed(self.SEED))
        with torch.no_grad():
            prediction = self.network(corrupted)
        seen = {"image": corrupted, "pred": prediction, "label": {"clean": clean}}
        return [*draw_inpainting(seen, modalities=self.modalities).values()]
