"""Sinks of a run's record on a server: MLflow (MONAI's option `--tracking mlflow`), and Weights & Biases."""

import atexit
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from ignite.engine import Engine
from monai.handlers import MLFlowHandler
from monai.utils import optional_import

from ..errors import InputError, one_line, show
from .records import RunRecord, Sink

MOST_PARAMETERS, LONGEST = 100, 6000  # parameters in one request to MLflow; characters of a value


class MLflow(Sink):
    """Log a run's settings, losses, metrics and files with the client of MONAI's `MLFlowHandler`.

    The handler, which `--tracking mlflow` adds to a config, is not attached: it logs one loss, writes to concurrent
    runs, and uploads incomplete files. An unreachable server ends a run before its first step; later, tracking stops
    with a line.
    """

    def __init__(self, handler: MLFlowHandler, files: Sequence[str | Path]) -> None:
        self.handler, self.files = handler, files
        self._run = ""  # the run's id, while it is tracked
        atexit.register(self._abandon)

    def begin(self, record: RunRecord, engine: Engine) -> None:
        """Begin the run in MLflow, or continue it."""
        handler, content = self.handler, record.content
        handler.run_name = handler.run_name or f"{content['bundle']} {content['started']}"
        weights = {"pretrained": content["weights"]["source"]} if "weights" in content else {}
        try:
            handler.start(engine)
            self._run = handler.cur_run.info.run_id
            handler.client.update_run(self._run, status="RUNNING")
            self._log_settings({**content["config"], **weights})
        except Exception as error:  # raised by MLflow, its database or the network
            raise InputError(f"tracking of run {handler.run_name}: {one_line(error)}") from error

    def _log_settings(self, settings: Mapping[str, Any]) -> None:
        """Log the settings as parameters, which MLflow never changes, and settings changed by a resumed run as tags."""
        entities, _ = optional_import("mlflow.entities")
        client = self.handler.client
        known = client.get_run(self._run).data.params
        shown = {name: str(value)[:LONGEST] for name, value in settings.items()}
        new = [entities.Param(name, value) for name, value in shown.items() if name not in known]
        for first in range(0, len(new), MOST_PARAMETERS):
            client.log_batch(self._run, params=new[first : first + MOST_PARAMETERS])
        for name, value in shown.items():
            if known.get(name, value) != value:
                client.set_tag(self._run, f"resumed.{name}", value)

    def add(self, section: str, iteration: int, values: Mapping[str, Any]) -> None:
        entities, _ = optional_import("mlflow.entities")
        now = int(1000 * time.time())  # milliseconds
        numbers = {
            f"{section}/{name}".lstrip("/"): each for name, each in values.items() if isinstance(each, int | float)
        }
        metrics = [entities.Metric(_allowed(name), value, now, iteration) for name, value in numbers.items()]
        self._try("log_batch", metrics=metrics)

    def end(self, engine: Engine) -> None:
        """Upload the files and MONAI's config of the run, and end the run."""
        for file in (*self.handler.artifacts, *self.files):
            if file and Path(file).exists():
                self._try("log_artifact", file)
        self._try("set_terminated", "FINISHED")
        self._run = ""

    def _abandon(self) -> None:
        """End the tracked run of a process that exits without finishing."""
        has_failed = getattr(sys, "last_value", None) is not None  # an exception, not a signal
        self._try("set_terminated", "FAILED" if has_failed else "KILLED")
        self._run = ""

    def _try(self, action: str, *arguments: Any, **options: Any) -> None:
        """Call MLflow's client; if the call fails, tracking stops."""
        if not self._run:
            return
        try:
            getattr(self.handler.client, action)(self._run, *arguments, **options)
        except Exception as error:  # failed tracking must not end the run
            show(f"warning: no longer tracked by MLflow: {one_line(error)}", error=True)
            self._run = ""


def _allowed(name: str) -> str:
    """A metric's name in the characters that MLflow allows; a region's name may have others."""
    return re.sub(r"[^\w\-. :/]", "_", name, flags=re.ASCII)


class WandB(Sink):
    """Send a training's settings, losses and metrics to Weights & Biases, and nothing that names folders or hosts.

    A resumed training becomes a new W&B run that includes the points of the earlier runs.

    Args:
        project: W&B project.
        options: Further arguments of `wandb.init`.

    Raises:
        InputError: wandb is not installed.
    """

    PRIVATE: ClassVar = {  # no command line, host, user, repository or output
        "host": "unnamed",
        "x_disable_meta": True,
        "x_disable_machine_info": True,
        "x_save_requirements": False,
        "disable_git": True,
        "disable_code": True,
        "console": "off",
    }

    def __init__(self, project: str = "brainsegfounder", **options: Any) -> None:
        self.options = {"project": project} | options
        self._wandb, is_there = optional_import("wandb")
        if not is_there:
            raise InputError("wandb.yaml: no module wandb; expected it in this environment: pip install wandb")

    def begin(self, record: RunRecord, engine: Engine) -> None:
        """Begin a run, which counts as failed unless it reaches its end, and send the points so far."""
        content = record.content
        settings = {name: value for name, value in content["config"].items() if name != "datalist"}
        name = f"{content['bundle']} {content['started']}"
        hook = sys.excepthook  # W&B's hook prints a traceback for bad input
        given = self.options | {"settings": self.PRIVATE | self.options.get("settings", {})}
        self._run = self._wandb.init(**({"name": name, "dir": record.folder, "config": settings} | given))
        sys.excepthook = hook
        atexit.register(self._wandb.finish, exit_code=1)  # does nothing after `end`
        for point in record.points():
            self.add(*point)

    def add(self, section: str, iteration: int, values: Mapping[str, Any]) -> None:
        self._run.log({f"{section}/{name}": each for name, each in values.items() if each is not None}, step=iteration)

    def end(self, engine: Engine) -> None:
        self._wandb.finish()
