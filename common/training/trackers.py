"""Trackers, which follow a run: TensorBoard, MLflow, and those of one's own, each a `Tracker`.

A config lists further ones among its handlers. A training tells them what its record, run.json, gets.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import indent
from types import SimpleNamespace
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from monai.handlers import MLFlowHandler
from torch.utils.tensorboard import SummaryWriter

from ..files import reporting_path_errors


class Tracker(ABC):
    """Follows a run; only the main process calls it."""

    def begin(self, name: str, settings: Mapping[str, Any], resumed: bool = False) -> None:  # noqa: B027  optional
        """Begin a run, or continue a `resumed` one; an evaluation or inference states no settings."""

    @abstractmethod
    def log(self, section: str, values: Mapping[str, float], iteration: int) -> None:
        """Take finite values of a section: train (losses and learning_rate), validation, or evaluation."""

    def end(self, files: Sequence[Path]) -> None:  # noqa: B027  optional
        """End a run that has not failed; `files` are its records, tables and weights."""


class TensorBoard(Tracker):
    """Events in a folder for each section, with the settings as text."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.settings = folder, ""
        self._writers: dict[str, SummaryWriter] = {}

    def begin(self, name: str, settings: Mapping[str, Any], resumed: bool = False) -> None:
        self.settings = indent(json.dumps(settings, indent=1, default=str), " " * 4)  # Markdown's code

    def log(self, section: str, values: Mapping[str, float], iteration: int) -> None:
        with self._naming_events():
            if section not in self._writers:
                self._writers[section] = SummaryWriter(self.folder / section)
                self._writers[section].add_text("settings", self.settings, iteration)
            for name, value in values.items():
                self._writers[section].add_scalar(name, value, iteration)

    def end(self, files: Sequence[Path]) -> None:
        with self._naming_events():
            while self._writers:
                self._writers.popitem()[1].close()

    def _naming_events(self) -> Any:
        return reporting_path_errors(str(self.folder), "a folder on a disk with space")


class MLflow(Tracker):
    """The run of MONAI's `MLFlowHandler`, which `--tracking mlflow` adds to a config's handlers.

    Without a name, that handler would continue any unfinished run of the experiment.
    """

    def __init__(self, handler: MLFlowHandler) -> None:
        self.handler = handler
        handler.default_tracking_params = ()  # of the engine, which the settings describe better

    def begin(self, name: str, settings: Mapping[str, Any], resumed: bool = False) -> None:
        self.handler.run_name = self.handler.run_name or name
        self.handler.experiment_param = None if resumed else dict(settings)  # MLflow refuses changes
        self.handler.start(SimpleNamespace(state=None))

    def log(self, section: str, values: Mapping[str, float], iteration: int) -> None:
        prefix = "train_" if section == "train" else ""
        self.handler._log_metrics({f"{prefix}{name}": value for name, value in values.items()}, iteration)

    def end(self, files: Sequence[Path]) -> None:
        self.handler.artifacts = (*self.handler.artifacts, *files)
        self.handler.complete()
        self.handler.close()


def separate(handlers: Sequence[Any]) -> tuple[list[Tracker], list[Any]]:
    """The trackers among the handlers of a config, and the other handlers."""
    found = [MLflow(handler) if isinstance(handler, MLFlowHandler) else handler for handler in handlers]
    return [each for each in found if isinstance(each, Tracker)], [
        each for each in found if not isinstance(each, Tracker)
    ]


def untracked(handlers: Sequence[Any]) -> list[Any]:
    """The handlers of a validator without trackers: the trainer's record tells its metrics."""
    return separate(handlers)[1]


def name_of_run(bundle: str, output_dir: str | Path) -> str:
    """The name of a run for trackers."""
    return f"{bundle} {Path(output_dir).resolve()}"


class Tracking:
    """Tell trackers the metrics of an evaluation or inference, and its files.

    Args:
        trackers: Trackers.
        name: Name of the run.
        files: Files that exist in the end.
    """

    def __init__(self, trackers: Sequence[Tracker], name: str, files: Sequence[Path]) -> None:
        self.trackers, self.name, self.files = trackers, name, files

    def attach(self, engine: Engine) -> None:
        """Follow the run of `engine`, on the main process; list it after the handlers that write the files."""
        if self.trackers and idist.get_rank() == 0:
            engine.add_event_handler(Events.STARTED, self._begin)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._log)
            engine.add_event_handler(Events.COMPLETED, self._end)

    def _begin(self) -> None:
        for tracker in self.trackers:
            tracker.begin(self.name, {})

    def _log(self, engine: Engine) -> None:
        metrics = {name: value for name, value in engine.state.metrics.items() if isinstance(value, int | float)}
        for tracker in self.trackers if metrics else ():
            tracker.log("evaluation", metrics, 0)

    def _end(self) -> None:
        for tracker in self.trackers:
            tracker.end(self.files)
