"""The optimiser steps of a study's trainings, from their configs."""

from functools import cache
from pathlib import Path
from typing import Any

from common import configs
from common.data import datalists
from common.errors import within
from common.options import OPTIONS, Options
from scripts.experiments.jobs import CommandLine, StudyJob

LENGTH = ("iterations", "val_interval", "warmup_iterations")
OF_STEP = (*LENGTH, "batch_size", "global_batch_size", "crops_per_volume")
OF_A_RUN = ("dataset_dir", "datalist", "output_dir", "ckpt_dir", "pretrained", "seed")  # do not change its steps


def steps_of(job: StudyJob, gpus: int) -> int | None:
    """The optimiser steps of a training; None if they follow from a datalist that does not exist yet."""
    from common.training.plan import length
    from common.training.step import accumulation_steps

    shared = tuple(word for word in job.command.words if _option(word) not in OF_A_RUN)
    with within(job.name):
        settings = _settings(CommandLine(shared, job.command.folder))
        batch = settings["batch_size"]
        batches = accumulation_steps(settings.get("global_batch_size"), batch, gpus)
        per_step = batch // settings.get("crops_per_volume", 1) * batches * gpus
        datalist = Path(_given(job.command)["datalist"])
        if datalist.is_file():
            cases = len(datalists.read(datalist)["training"])
        elif all(isinstance(settings[name], int) for name in LENGTH):
            cases = per_step  # numbers given in iterations do not depend on the cases
        else:
            return None
        return length(Options(**{name: settings[name] for name in LENGTH}), cases, per_step).iterations


@cache  # a config takes 0.1 s to read, and many trainings share it
def _settings(command: CommandLine) -> dict[str, Any]:
    parser = config_of(command)
    found = {name: parser.get_parsed_content(name) for name in OF_STEP if name in parser}
    return {name: OPTIONS[name](value) for name, value in found.items()}


def config_of(command: CommandLine, **replaced: Any) -> Any:
    """The `ConfigParser` of the run that a bundle's command starts, with its imports, ready to resolve content.

    `replaced` overrides options of the command.
    """
    (word,) = (word for word in command.words if word.startswith("--config_file="))
    value = configs.parsed("config_file", word.partition("=")[2])
    files = [value] if isinstance(value, str) else value
    parser = configs.read([command.folder / file for file in files], _given(command) | replaced)
    parser.get_parsed_content("imports")  # `common`, which defaults refer to
    return parser


def _option(word: str) -> str:
    """The name of the option that a word of a command sets."""
    return word.partition("=")[0].removeprefix("--")


def _given(command: CommandLine) -> dict[str, Any]:
    """The options on a command, parsed as MONAI parses them."""
    options = {}
    for word in command.words:
        name, equals, value = word.partition("=")
        if equals and name.startswith("--") and name not in ("--config_file", "--nproc_per_node"):
            options[name[2:]] = configs.parsed(name[2:], value)
    return options
