"""Trackers, which send a run's metrics to TensorBoard, MLflow, Weights & Biases or a custom `Tracker`.

A config lists trackers among its handlers; TensorBoard is built in. In training, they get the values of run.json.
"""

import json
import re
import secrets
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import indent
from types import SimpleNamespace
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from ignite.handlers import WandBLogger
from monai.handlers import MLFlowHandler
from torch.utils.tensorboard import SummaryWriter


class Tracker(ABC):
    """Base class of trackers, which send a run's metrics to a service; only the main process calls their methods."""

    def begin(self, name: str, settings: Mapping[str, Any], resumed: bool = False) -> None:  # noqa: B027  optional
        """Begin a run, or continue a `resumed` run; `settings` is empty for evaluation and inference."""

    @abstractmethod
    def log(self, section: str, values: Mapping[str, float], iteration: int) -> None:
        """Log finite values of a section: train (losses, learning_rate, seconds_per_step), validation or evaluation."""

    def end(self, files: Sequence[Path]) -> None:  # noqa: B027  optional
        """End a successful run and upload `files`: its records, tables and weights."""


class TensorBoard(Tracker):
    """Write TensorBoard events to a subfolder for each section, with the settings as text."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.settings = folder, ""
        self._writers: dict[str, SummaryWriter] = {}

    def begin(self, name: str, settings: Mapping[str, Any], resumed: bool = False) -> None:
        self.settings = indent(json.dumps(settings, indent=1, default=str), " " * 4)  # a Markdown code block

    def log(self, section: str, values: Mapping[str, float], iteration: int) -> None:
        if section not in self._writers:
            self._writers[section] = SummaryWriter(self.folder / section, purge_step=iteration)  # hides later steps
            self._writers[section].add_text("settings", self.settings, iteration)
        for name, value in values.items():
            self._writers[section].add_scalar(name, value, iteration)

    def end(self, files: Sequence[Path]) -> None:
        while self._writers:
            self._writers.popitem()[1].close()


class MLflow(Tracker):
    """Track a run with MONAI's `MLFlowHandler`, which `--tracking mlflow` adds to a config's handlers.

    `begin` names the run; without a name, the handler would continue any unfinished run of the experiment.
    """

    def __init__(self, handler: MLFlowHandler) -> None:
        self.handler = handler
        handler.default_tracking_params = ()  # none from the engine; `begin` passes the settings
        # MONAI 1.6.1 names its copy of the config by an expression, which it does not evaluate if output_dir is text
        artifacts = [re.sub(r" \+ '(/config_\w+\.json)'$", r"\1", str(file)) for file in handler.artifacts if file]
        handler.artifacts = artifacts

    def begin(self, name: str, settings: Mapping[str, Any], resumed: bool = False) -> None:
        self.handler.run_name = self.handler.run_name or name
        self.handler.experiment_param = None if resumed else dict(settings)  # MLflow refuses changed parameters
        self.handler.start(SimpleNamespace(state=None))

    def log(self, section: str, values: Mapping[str, float], iteration: int) -> None:
        prefix = "train_" if section == "train" else ""
        self.handler._log_metrics({f"{prefix}{name}": value for name, value in values.items()}, iteration)

    def end(self, files: Sequence[Path]) -> None:
        self.handler.artifacts = (*self.handler.artifacts, *files)
        self.handler.complete()
        self.handler.close()


class WeightsAndBiases(Tracker):
    """Track a run with Ignite's `WandBLogger`, by `iteration`; a resumed training continues its run.

    Args:
        folder: Folder of the local files, such as output_dir; `FOLDER/wandb/id` contains the training's id.
        settings: Arguments of `wandb.init`, such as `project`, and `mode` (offline needs no account).
    """

    def __init__(self, folder: str | Path, **settings: Any) -> None:
        self.folder, self.settings = Path(folder), settings

    def begin(self, name: str, settings: Mapping[str, Any], resumed: bool = False) -> None:
        file = self.folder / "wandb" / "id"
        run = file.read_text() if resumed and file.is_file() else secrets.token_hex(4)
        of_run = {"name": name, "config": dict(settings), "dir": str(self.folder), "id": run, "resume": "allow"}
        self.logger = WandBLogger(**of_run | self.settings)
        self.logger.define_metric("*", step_metric="iteration")
        if settings:  # an evaluation in the same folder must keep the training's id
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(run)

    def log(self, section: str, values: Mapping[str, float], iteration: int) -> None:
        self.logger.log({"iteration": iteration} | {f"{section}/{name}": value for name, value in values.items()})

    def end(self, files: Sequence[Path]) -> None:
        for file in filter(Path.is_file, files):
            self.logger.save(file, base_path=file.parent, policy="now")
        self.logger.close()


def separate(handlers: Sequence[Any]) -> tuple[list[Tracker], list[Any]]:
    """Split a config's handlers into trackers and other handlers."""
    wrapped = [MLflow(handler) if isinstance(handler, MLFlowHandler) else handler for handler in handlers]
    trackers = [handler for handler in wrapped if isinstance(handler, Tracker)]
    return trackers, [handler for handler in wrapped if not isinstance(handler, Tracker)]


def untracked(handlers: Sequence[Any]) -> list[Any]:
    """Return a validator's handlers without its trackers; they get the validator's metrics from `TrainingRecord`."""
    return separate(handlers)[1]


def name_of_run(bundle: str, output_dir: str | Path) -> str:
    """Return a run's name in trackers."""
    return f"{bundle} {Path(output_dir).resolve()}"


class Tracking:
    """Send the metrics and files of an evaluation or inference to trackers."""

    def __init__(self, trackers: Sequence[Tracker], name: str, files: Sequence[Path]) -> None:
        self.trackers, self.name, self.files = trackers, name, files

    def attach(self, engine: Engine) -> None:
        """Track the run of `engine`, on the main process. List this handler after those that write the files."""
        if idist.get_rank() == 0:
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
