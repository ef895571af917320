"""Write the embeddings of a run, a vector per subject, to a file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events

from ..errors import InputError, choice
from ..files import atomic_write


class EmbeddingFile:
    """Collect the embeddings of a run, a vector per subject; write `OUTPUT_DIR/embeddings.npz` atomically at its end.

    The arrays are "subject" [N] (text, in alphabetical order), "split" [N] (text), "embedding" [N, C], "settings" (JSON
    text) and, if the output has them, "level_0" to "level_4" [N, C_l]. Vectors are float32. Nothing is pickled, so
    `numpy.load` needs no options. A run without vectors writes no file.

    The engine's output is decollated: "pred" is the output of `EmbeddingInferer` without the first axis. The engine's
    batch has "subject".

    Args:
        output_dir: Folder of the file.
        settings: Settings of the run, which identify the network.
        splits: Split of each subject; a subject without one gets "".
        existing: Treatment of an existing file: refuse or replace.

    Raises:
        InputError: the file cannot be written, or exists and may not be replaced.
    """

    def __init__(
        self, output_dir: str, settings: Mapping[str, Any], splits: Mapping[str, str], existing: str = "refuse"
    ) -> None:
        self.path, self.settings, self.splits = Path(output_dir) / "embeddings.npz", dict(settings), splits
        may_replace = choice("existing", existing, {"refuse": False, "replace": True})
        if self.path.exists() and not may_replace:
            raise InputError(self.path, "exists already", "existing=replace, or another output_dir")
        self.vectors: dict[str, dict[str, np.ndarray]] = {}

    def attach(self, engine: Engine) -> None:
        """Collect the output of `engine`."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._gather)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _gather(self, engine: Engine) -> None:
        for output, item in zip(engine.state.output, engine.state.batch, strict=True):
            self.vectors[item["subject"]] = {name: value.cpu().numpy() for name, value in output["pred"].items()}

    def _write(self) -> None:
        if self.vectors:
            subjects = sorted(self.vectors)
            levels = self.vectors[subjects[0]]
            arrays = {name: np.stack([self.vectors[subject][name] for subject in subjects]) for name in levels}
            arrays["split"] = np.array([self.splits.get(subject, "") for subject in subjects])
            arrays |= {"subject": np.array(subjects), "settings": np.array(json.dumps(self.settings, sort_keys=True))}
            with atomic_write(self.path) as temporary, temporary.open("wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy takes them for its own options

    def figures(self, engine: Engine) -> list[str]:
        """Return the summary line of a run: the number of subjects and the vectors' length; none without vectors."""
        lengths = [len(levels["embedding"]) for levels in self.vectors.values()]
        return (
            [f"embedded: {len(lengths)} of {engine.state.epoch_length} subjects; vectors of {lengths[0]} values"]
            if lengths
            else []
        )
