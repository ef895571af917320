"""The optimiser steps of a study's training runs, from their configs."""

from functools import cache
from pathlib import Path
from typing import Any

from common import configs
from common.data import datalists
from common.errors import ArgumentError, within
from common.options import OPTIONS, Options
from common.values import AUTO
from scripts.experiments.jobs import CommandLine, StudyJob

LENGTH = ("iterations", "val_interval", "warmup_iterations")
STEP_OPTIONS = (*LENGTH, "batch_size", "global_batch_size", "crops_per_volume")
RUN_OPTIONS = ("dataset_dir", "datalist", "output_dir", "ckpt_dir", "pretrained", "seed")  # without effect on the steps


def steps_of(job: StudyJob, gpus: int) -> int | None:
    """Return a training run's number of optimiser steps; None if the number depends on a datalist not yet made."""
    from common.training.length import length
    from common.training.step import accumulation_steps

    shared = tuple(option for option in job.command.options.items() if option[0] not in RUN_OPTIONS)
    with within(job.name):
        settings = _settings(shared, job.command.folder)
        batch = settings["batch_size"]
        total = settings.get("global_batch_size") or 0
        if batch != AUTO:
            total = batch * accumulation_steps(total or None, batch, gpus) * gpus
        if not total:
            raise ArgumentError("batch_size", batch, "there is no global_batch_size to keep", "that, or a number")
        per_step = total // settings.get("crops_per_volume", 1)
        datalist = Path(job.command.options["datalist"])
        if datalist.is_file():
            cases = len(datalists.read(datalist)["training"])
        elif all(isinstance(settings[name], int) for name in LENGTH):
            cases = per_step  # lengths in iterations do not depend on the number of cases
        else:
            return None
        return length(Options(**{name: settings[name] for name in LENGTH}), cases, per_step).iterations


@cache  # a config takes 0.1 s to read, and many training runs share it
def _settings(options: tuple[tuple[str, str], ...], folder: Path) -> dict[str, Any]:
    parser = config_of(CommandLine((), dict(options), folder))
    content = {name: parser.get_parsed_content(name) for name in STEP_OPTIONS if name in parser}
    return {name: OPTIONS[name](value) for name, value in content.items()}


def config_of(command: CommandLine, **replaced: Any) -> Any:
    """Return the `ConfigParser` of a bundle's command, with its imports done; `replaced` overrides its options."""
    options = {name: configs.parsed(name, text) for name, text in command.options.items()} | replaced
    files = options.pop("config_file")
    parser = configs.read([command.folder / file for file in ([files] if isinstance(files, str) else files)], options)
    parser.get_parsed_content("imports")  # `common`, which defaults refer to
    return parser
