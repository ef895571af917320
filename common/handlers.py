"""Handlers that MONAI and Ignite lack: progress, checkpoints that resume, the record of a run, pictures."""

import gc
import json
import math
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
import torch.distributed as dist
from ignite.engine import Engine, Events
from matplotlib.figure import Figure
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from common import weights
from common.preflight import InputError, flag
from common.transforms import regions

__all__ = [
    "Checkpoints",
    "EvaluationRecord",
    "Pictures",
    "Progress",
    "TrainingRecord",
    "command_line",
    "leave_process_group",
]


class Progress:
    """A progress bar over the whole run, in steps, with the time left and the latest loss.

    Args:
        name: what is shown before the bar.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def attach(self, engine: Engine) -> None:
        """Show the progress of `engine`."""
        engine.add_event_handler(Events.STARTED, self._open)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._advance)
        engine.add_event_handler(Events.COMPLETED, lambda: self._bar.close())
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._abandon)

    def _open(self, engine: Engine) -> None:
        self._bar = tqdm(
            total=engine.state.max_epochs * engine.state.epoch_length,
            initial=engine.state.iteration,
            desc=self.name,
            unit="step",
            mininterval=0.5 if sys.stderr.isatty() else 20,  # seconds; a log file needs fewer lines
            dynamic_ncols=True,
        )

    def _abandon(self, engine: Engine, error: Exception) -> None:
        self._bar.close()  # so that what is said of the error begins a line of its own
        raise error

    def _advance(self, engine: Engine) -> None:
        if self._bar.update() and isinstance(engine.state.output, Mapping) and "loss" in engine.state.output:
            self._bar.set_postfix(loss=f"{engine.state.output['loss'].item():.3f}", refresh=False)


class Checkpoints:
    """Write `model.pt` whenever validation was better than ever, `last.pt` after every epoch; resume from the latter.

    `model.pt` holds the network and what it was trained with. `last.pt` holds besides all that a run needs to go on:
    optimiser, schedule, trainer, the best metric and the random states of every rank. Files are written whole or not at
    all. List it before the validation handler: it resumes first, and saves after every other handler of the epoch.

    Args:
        save_dir: folder of the two files.
        network: the unwrapped network, so that no key begins with `module.`.
        objects: what else has a state, the same on all ranks, by name.
        local_objects: what has a state of its own on each rank, by name.
        metadata: what the network was trained with; plain values.
        validator: the evaluator whose key metric decides.
        lower_is_better: whether a smaller metric is the better one.
        resume: go on from `last.pt`.
        main_process: whether this rank writes.

    Raises:
        InputError: `resume`, and there is no `last.pt`.
    """

    def __init__(
        self,
        save_dir: str,
        network: nn.Module,
        objects: Mapping[str, Any],
        metadata: Mapping[str, Any],
        validator: Engine,
        local_objects: Mapping[str, Any] | None = None,
        lower_is_better: bool = False,
        resume: bool | str = False,
        main_process: bool = True,
    ) -> None:
        self.best_file, self.last_file = Path(save_dir) / "model.pt", Path(save_dir) / "last.pt"
        self.resume = flag("resume", resume)
        if self.resume and not self.last_file.is_file():
            raise InputError(f"--resume=true: no {self.last_file} to go on from; expected one that a run has left")
        self.network, self.objects, self.local_objects = network, dict(objects), dict(local_objects or {})
        self.metadata = dict(metadata) | {"versions": weights.versions()}
        self.validator, self.sign = validator, -1 if lower_is_better else 1
        self.main_process = main_process
        self.best = -self.sign * math.inf

    def attach(self, trainer: Engine) -> None:
        """Save and resume the run of `trainer`."""
        trainer.add_event_handler(Events.STARTED, self._start)
        self.validator.add_event_handler(Events.EPOCH_COMPLETED, self._save_best, trainer)

    def _start(self, trainer: Engine) -> None:
        if self.resume:
            self._load(trainer)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._save_last)  # now, so that it comes last

    def _save_best(self, trainer: Engine) -> None:
        metric = self.validator.state.metrics[self.validator.state.key_metric_name]
        if not self.sign * metric > self.sign * self.best:  # as of a metric that is not a number
            return
        self.best = metric
        if self.main_process:
            reached = {"iteration": trainer.state.iteration, self.validator.state.key_metric_name: metric}
            content = {"network": self.network.state_dict(), "metadata": self.metadata | {"reached": reached}}
            weights.write(content, self.best_file)

    def _save_last(self, trainer: Engine) -> None:
        ranks = _gather({"random": _random_state()} | _states(self.local_objects))
        if self.main_process:
            content = _states(self._shared(trainer)) | {"best": self.best, "ranks": ranks, "metadata": self.metadata}
            weights.write(content, self.last_file)

    def _load(self, trainer: Engine) -> None:
        content = weights.load(self.last_file)
        max_epochs, epoch_length = trainer.state.max_epochs, trainer.state.epoch_length
        try:
            for name, item in self._shared(trainer).items():
                item.load_state_dict(content[name])
        except (KeyError, RuntimeError, ValueError) as error:
            cause = str(error).splitlines()[0]
            raise InputError(f"--resume=true: {self.last_file} is of another run ({cause})") from error
        if trainer.state.epoch_length != epoch_length:
            expected = f"expected {trainer.state.epoch_length}, with which {self.last_file} was written"
            raise InputError(f"--val_interval={epoch_length}: {expected}")
        trainer.state.max_epochs = max_epochs
        self.best = content["best"]
        ranks = content["ranks"]
        if len(ranks) == idist.get_world_size():
            self._set_local_state(trainer, ranks[idist.get_rank()])
        elif self.main_process:
            print(f"resume: {len(ranks)} processes wrote {self.last_file}; random numbers begin anew", flush=True)

    def _shared(self, trainer: Engine) -> dict[str, Any]:
        scaler = getattr(trainer, "scaler", None)
        return {"network": self.network, "trainer": trainer, **self.objects} | ({"scaler": scaler} if scaler else {})

    def _set_local_state(self, trainer: Engine, state: Mapping[str, Any]) -> None:
        next_epoch = Events.EPOCH_STARTED(once=trainer.state.epoch + 1)  # after a validation at the start
        trainer.add_event_handler(next_epoch, lambda: _set_random_state(state["random"]))
        for name, item in self.local_objects.items():
            item.load_state_dict(state[name])


def _states(objects: Mapping[str, Any]) -> dict[str, Any]:
    return {name: item.state_dict() for name, item in objects.items()}


def _gather(state: Mapping[str, Any]) -> list[Any]:
    """The states of all ranks, in the order of the ranks."""
    if not dist.is_initialized():
        return [state]
    states: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(states, state)
    return states


def _random_state() -> dict[str, Any]:
    """The states of the generators of Python, NumPy and PyTorch, in types that load with `weights_only=True`."""
    numpy = np.random.get_state(legacy=False)  # noqa: NPY002, MONAI draws from it
    numpy["state"] = {"key": torch.from_numpy(numpy["state"]["key"].astype(np.int64)), "pos": numpy["state"]["pos"]}
    state = {"python": random.getstate(), "numpy": numpy, "torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _set_random_state(state: Mapping[str, Any]) -> None:
    numpy = state["numpy"]
    key = numpy["state"]["key"].numpy().astype(np.uint32)
    random.setstate(state["python"])
    np.random.set_state(numpy | {"state": {"key": key, "pos": numpy["state"]["pos"]}})  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


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
            "device": "cuda" if torch.cuda.is_available() else "cpu",
            "world_size": idist.get_world_size(),
            "versions": weights.versions(),
            "git_commit": _git_commit(),
            "config": {name: str(value) for name, value in settings.items()},
        }
        self._before = 0.0  # seconds, of the runs that this one resumes
        self._start = time.monotonic()

    def attach(self, engine: Engine) -> None:
        """Record the run of `engine`."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.write)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def write(self) -> None:
        """Write the record as it stands."""
        self.content["seconds"] = round(self._before + time.monotonic() - self._start, 1)
        self.content |= _peak_memory()
        self.content["pictures"] = sorted(str(p.relative_to(self.folder)) for p in self.folder.glob("pictures/*.png"))
        if self.main_process:
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary = self.folder / ".run.json"
            temporary.write_text(json.dumps(self.content, indent=1))
            temporary.replace(self.folder / "run.json")

    def _finish(self) -> None:
        self.content["finished"] = True
        self.write()


def command_line(arguments: Sequence[str]) -> str:
    """The arguments as one would type them in a shell: in double quotes where that reads better than in single ones."""
    return " ".join(f'"{word}"' if "'" in word and not set(word) & set('"$`\\!') else quote(word) for word in arguments)


def _command() -> str:
    if sys.argv[0].endswith("monai/bundle/__main__.py"):
        return command_line(["python", "-m", "monai.bundle", *sys.argv[1:]])
    return command_line(sys.argv)


def _git_commit() -> str | None:
    try:
        command = ["git", "-C", str(Path(__file__).resolve().parent), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no git, or a package outside a checkout
        return None


def _peak_memory() -> dict[str, float]:
    """Peak memory of this process in GiB, and of its GPU where it uses one."""
    peak = {"peak_memory_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3)}
    if torch.cuda.is_available():
        peak["peak_gpu_memory_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 3)
    return peak


class TrainingRecord(RunRecord):
    """The record of a training: besides, what the weights began as, the losses and what each validation measured.

    Losses are means over stretches of the training: about a thousand equal ones, and one up to each validation.

    Args:
        output_dir, settings, main_process: as for `RunRecord`.
        terms: the loss's terms by name, from the trainer's output.
        validator: its metrics are recorded, with the trainer's iteration.
        report: what became of the pretrained weights.
    """

    POINTS = 1000

    def __init__(
        self,
        output_dir: str,
        settings: Mapping[str, Any],
        terms: Callable[[Any], Mapping[str, torch.Tensor]],
        validator: Engine,
        report: weights.Report,
        main_process: bool = True,
    ) -> None:
        super().__init__(output_dir, settings, "train", main_process)
        self.terms, self.validator = terms, validator
        tensors = {"changed": report.changed, **report.gaps()}
        self.content["weights"] = {"source": report.source, **report.counts(), "tensors": tensors}
        self.content["train"] = {"iteration": [], "loss": {}}
        self.content["validation"] = {"iteration": [], "metrics": {}}
        self._sums: dict[str, torch.Tensor] = {}
        self._steps = 0

    def attach(self, engine: Engine) -> None:
        """Record the run of the trainer `engine`."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        self.validator.add_event_handler(Events.EPOCH_COMPLETED, self._validated, engine)
        super().attach(engine)

    def _add(self, trainer: Engine) -> None:
        for name, value in self.terms(trainer.state.output).items():
            self._sums[name] = self._sums.get(name, 0) + value.detach()
        self._steps += 1
        length, steps = trainer.state.epoch_length, trainer.state.max_epochs * trainer.state.epoch_length
        if trainer.state.iteration % -(-steps // self.POINTS) == 0 or trainer.state.iteration % length == 0:
            means = {name: round(value.item() / self._steps, 6) for name, value in self._sums.items()}
            self._append("train", "loss", trainer.state.iteration, means)
            self._sums, self._steps = {}, 0

    def _validated(self, trainer: Engine) -> None:
        metrics = {name: value for name, value in self.validator.state.metrics.items() if isinstance(value, float)}
        if trainer.state.iteration not in self.content["validation"]["iteration"]:
            self._append("validation", "metrics", trainer.state.iteration, metrics)
            self.write()

    def _append(self, section: str, kind: str, iteration: int, values: Mapping[str, float]) -> None:
        self.content[section]["iteration"].append(iteration)
        for name, value in values.items():
            self.content[section][kind].setdefault(name, []).append(value)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run goes on with."""
        return {name: self.content[name] for name in ("started", "weights", "train", "validation")} | {
            "seconds": self._before + time.monotonic() - self._start
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the record of the run that is resumed."""
        self.content |= {name: value for name, value in state.items() if name != "seconds"}
        self._before = state["seconds"]


class EvaluationRecord(RunRecord):
    """The record of an evaluation: besides, the Dice of each case and region, and their means.

    Args:
        output_dir, settings, main_process: as for `RunRecord`.
        convention: whose regions were measured.
    """

    def __init__(
        self, output_dir: str, settings: Mapping[str, Any], convention: str, main_process: bool = True
    ) -> None:
        super().__init__(output_dir, settings, "evaluate", main_process)
        self.regions = list(regions(convention))
        self._cases: list[str] = []

    def attach(self, engine: Engine) -> None:
        """Record the run of the evaluator `engine`, whose key metric is a `common.metrics.RegionDice`."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._score)
        super().attach(engine)

    def _add(self, engine: Engine) -> None:
        self._cases += [item["subject"] for item in engine.state.batch]

    def _score(self, engine: Engine) -> None:
        dice = engine.state.metric_details[engine.state.key_metric_name].tolist()
        cases = {name: dict(zip(self.regions, row, strict=True)) for name, row in zip(self._cases, dice, strict=True)}
        means = {region: engine.state.metrics[region] for region in self.regions}
        self.content["scores"] = {"regions": self.regions, "cases": cases, "mean": means}


class Pictures:
    """Draw what a validation or an evaluation saw, as PNG files and into TensorBoard.

    Args:
        output_dir: the files go to its folder `pictures`, the events to `tensorboard/pictures`.
        draw: makes figures by file name, from the engine's output and batch: see `common.pictures`.
        last_only: draw the last batch of a run only.
    """

    def __init__(
        self, output_dir: str, draw: Callable[[Any, Any], Mapping[str, Figure]], last_only: bool = False
    ) -> None:
        self.folder = Path(output_dir)
        self.draw, self.last_only = draw, last_only
        self.writer = SummaryWriter(self.folder / "tensorboard" / "pictures")

    def attach(self, engine: Engine) -> None:
        """Draw what `engine` has put out."""
        event = Events.EPOCH_COMPLETED if self.last_only else Events.ITERATION_COMPLETED
        engine.add_event_handler(event, self)

    def __call__(self, engine: Engine) -> None:
        (self.folder / "pictures").mkdir(parents=True, exist_ok=True)
        for name, figure in self.draw(engine.state.output, engine.state.batch).items():
            figure.savefig(self.folder / "pictures" / f"{name}.png", dpi=110)
            self.writer.add_figure(name, figure, engine.state.epoch)
        self.writer.flush()


def leave_process_group() -> None:
    """End the distributed process group; for `atexit`.

    gloo aborts in about half the runs where the group is destroyed while a DistributedDataParallel module is alive. At
    exit the config that held it is gone, but for reference cycles, which are collected first.
    """
    gc.collect()
    dist.destroy_process_group()
