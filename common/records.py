"""The record that a run leaves, `run.json`: its command and settings, versions, time, memory, and what it measured."""

import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events

from common import results, weights
from common.files import whole
from common.metrics import Protocol

__all__ = ["EvaluationRecord", "RunRecord", "TrainingRecord", "command_line", "peak_memory"]


class RunRecord:
    """Keep `run.json`: the command, the settings, versions, time and peak memory of a run; the base of two records.

    Args:
        output_dir: folder of `run.json`.
        settings: what the run was started with, by name.
        workflow: train or evaluate.
        main_process: whether this rank writes.
    """

    def __init__(self, output_dir: str, settings: Mapping[str, Any], workflow: str, main_process: bool = True) -> None:
        self.folder, self.main_process = Path(output_dir), main_process
        self.content: dict[str, Any] = {
            "bundle": settings["bundle"],
            "workflow": workflow,
            "finished": False,
            "command": _command(),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": 0.0,
            "device": "cuda" if torch.cuda.is_initialized() else "cpu",
            "world_size": idist.get_world_size(),
            "versions": weights.versions(),
            "git_commit": _git_commit(),
            "config": dict(settings),
        }
        self._is_new = True
        self._before = 0.0  # seconds, of the runs that this one resumes
        self._start = time.monotonic()

    def attach(self, engine: Engine) -> None:
        """Record the run of `engine`."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.write)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def write(self) -> None:
        """Write the record as it stands; each process has to come here, as the one that took most memory counts."""
        self.content["seconds"] = round(self._before + time.monotonic() - self._start, 1)
        self.content |= {name: idist.all_reduce(value, op="MAX") for name, value in peak_memory().items()}
        self.content["pictures"] = sorted(str(p.relative_to(self.folder)) for p in self.folder.glob("pictures/*.png"))
        if self.main_process:
            if self._is_new:
                _keep_earlier(self.folder / "run.json")
                self._is_new = False
            with whole(self.folder / "run.json") as file:
                file.write_text(json.dumps(self.content, indent=1, allow_nan=False))

    def _finish(self) -> None:
        self.content["finished"] = True
        self.write()


def _keep_earlier(record: Path) -> None:
    """Another run's record gets the time of its last line as part of its name."""
    if record.exists():
        changed = datetime.fromtimestamp(record.stat().st_mtime, UTC)
        record.rename(record.with_name(f"run-{changed:%Y%m%dT%H%M%S}.json"))


def command_line(arguments: Sequence[str]) -> str:
    """The arguments as one would type them in a shell: in double quotes where that reads better than in single ones."""
    return " ".join(f'"{word}"' if "'" in word and not set(word) & set('"$`\\!') else quote(word) for word in arguments)


def _command() -> str:
    if sys.argv[0].endswith("monai/bundle/__main__.py"):
        return command_line(["python", "-m", "monai.bundle", *sys.argv[1:]])
    return command_line(sys.argv)


def _git_commit() -> str | None:
    """The commit of the checkout that this file is tracked in, with `-dirty` where the checkout has changes."""
    file = Path(__file__).resolve()

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(file.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", file.name)
        return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.CalledProcessError):  # no git, or a package outside a checkout
        return None


def peak_memory() -> dict[str, float]:
    """Peak memory in GiB of this process, and of its GPU where it uses one."""
    peak = {"peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}
    if torch.cuda.is_available():
        peak["peak_gpu_memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
    return {name: round(value, 3) for name, value in peak.items()}


class TrainingRecord(RunRecord):
    """The record of a training: besides, what the weights began as, the losses and what each validation measured.

    Losses are means over stretches of the training and over all processes: about a thousand equal stretches, and one
    up to each validation and each state that is saved.

    Args:
        output_dir, settings, main_process: as for `RunRecord`.
        validator: its metrics are recorded, with the trainer's iteration.
        report: what became of the pretrained weights.
    """

    POINTS = 1000

    def __init__(
        self,
        output_dir: str,
        settings: Mapping[str, Any],
        validator: Engine,
        report: weights.Report,
        main_process: bool = True,
    ) -> None:
        super().__init__(output_dir, settings, "train", main_process)
        self.validator = validator
        tensors = {"changed": report.changed, **report.gaps()}
        self.content["weights"] = {"source": report.source, **report.counts(), "tensors": tensors}
        self.content["train"] = {"iteration": [], "loss": {}}
        self.content["validation"] = {"iteration": [], "metrics": {}}
        self._sums: dict[str, torch.Tensor] = {}
        self._steps = self._iteration = 0

    def attach(self, engine: Engine) -> None:
        """Record the run of the trainer `engine`, whose output has `terms`, the loss's terms by name."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        self.validator.add_event_handler(Events.EPOCH_COMPLETED, self._validated, engine)
        super().attach(engine)

    def _add(self, trainer: Engine) -> None:
        for name, value in trainer.state.output["terms"].items():
            self._sums[name] = self._sums.get(name, 0) + value.detach()
        self._steps += 1
        self._iteration = trainer.state.iteration
        length, steps = trainer.state.epoch_length, trainer.state.max_epochs * trainer.state.epoch_length
        if self._iteration % -(-steps // self.POINTS) == 0 or self._iteration % length == 0:
            self._end_stretch()

    def _end_stretch(self) -> None:
        """Record the mean since the last one, of all processes: each of them has to come here."""
        if self._steps:
            share = self._steps * idist.get_world_size()
            means = {name: round(idist.all_reduce(value).item() / share, 6) for name, value in self._sums.items()}
            self._append("train", "loss", self._iteration, means)
            self._sums, self._steps = {}, 0

    def _validated(self, trainer: Engine) -> None:
        measured = {name: value for name, value in self.validator.state.metrics.items() if isinstance(value, float)}
        metrics = {name: value if math.isfinite(value) else None for name, value in measured.items()}
        if trainer.state.iteration not in self.content["validation"]["iteration"]:
            self._append("validation", "metrics", trainer.state.iteration, metrics)
            self.write()

    def _append(self, section: str, kind: str, iteration: int, values: Mapping[str, float | None]) -> None:
        self.content[section]["iteration"].append(iteration)
        for name, value in values.items():
            self.content[section][kind].setdefault(name, []).append(value)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run goes on with; a stretch of the losses ends here, so all processes have to ask for it."""
        self._end_stretch()
        return {name: self.content[name] for name in ("started", "weights", "train", "validation")} | {
            "seconds": self._before + time.monotonic() - self._start
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the record of the run that is resumed."""
        self.content |= {name: value for name, value in state.items() if name != "seconds"}
        self._is_new = False
        self._before = state["seconds"]


class EvaluationRecord(RunRecord):
    """The record of an evaluation: besides, the Dice of each case and region, their means, and `common.results`' files.

    Args:
        output_dir, settings, main_process: as for `RunRecord`.
        protocol: that the evaluator's key metric, a `common.handlers.RegionScores`, measures by.
    """

    def __init__(
        self, output_dir: str, settings: Mapping[str, Any], protocol: Protocol, main_process: bool = True
    ) -> None:
        super().__init__(output_dir, settings, "evaluate", main_process)
        self.protocol = protocol

    def attach(self, engine: Engine) -> None:
        """Record the run of the evaluator `engine`."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._score)
        super().attach(engine)

    def _score(self, engine: Engine) -> None:
        cases = engine.state.metric_details[engine.state.key_metric_name]
        if self.main_process:
            results.write(self.folder, cases, self.protocol)
        dice = {case: {name: each.values["dice"] for name, each in regions.items()} for case, regions in cases.items()}
        regions = list(next(iter(dice.values())))
        means = {region: engine.state.metrics[region] for region in regions}
        self.content["scores"] = {"regions": regions, "cases": dice, "mean": means}
