"""Set up and check a cross-validation: a study with one training run for each fold."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.configs import BUNDLES, Change, bundles_with, check_known, parsed, read
from common.data import datalists
from common.errors import ArgumentError, choice
from common.files import check_writable_folder, expand_home, reporting_path_errors
from common.options import OPTIONS
from common.values import FILE, FOLDER, optional
from scripts.datalists.splits import hold_out, numbers_of
from scripts.experiments.engine import OpenStudy, open_study
from scripts.experiments.jobs import OWN, CommandLine, Places, StudyJob, texts_of
from scripts.experiments.steps import config_of, steps_of
from scripts.experiments.study import TAKEN, check_overlays
from scripts.run import blaming, check_early


@dataclass(frozen=True)
class Setup:
    """A checked cross-validation: its study, the study's `entry` of training runs, and the `numbers` of the folds."""

    bundle: str
    datalist: Path
    entry: Mapping[str, Any]
    numbers: Sequence[int]
    study: OpenStudy

    def training(self, number: int) -> StudyJob:
        """Return the job that trains a fold."""
        return self.study.jobs[f"{self.bundle}/fold{number}"]

    def evaluation(self, number: int) -> StudyJob:
        """Return the job that predicts and scores the held-out cases of a fold."""
        return self.study.jobs[f"{self.bundle}/fold{number}/evaluation"]


def set_up(
    bundle: str,
    datalist: str,
    dataset_dir: str,
    output: str,
    fold_options: Mapping[str, Any],
    overlays: Sequence[str],
    gpus: int,
    options: Mapping[str, Any],
) -> Setup:
    """Check everything that needs no trained model, and return the cross-validation; write nothing.

    `fold_options` are the arguments of `scripts.datalists.splits.hold_out`, which makes the folds. `{fold}` in text of
    `options` is replaced with the fold's number.
    """
    choice("bundle", bundle, dict.fromkeys(bundles_with("evaluate.yaml")))
    source, root, folder = (
        _absolute(name, path)
        for name, path in (("datalist", datalist), ("dataset_dir", dataset_dir), ("output", output))
    )
    content = datalists.read(source)
    check_writable_folder(folder, f"--output={output}")
    folds = fold_options["folds"]
    if len(numbers := numbers_of(folds)) < 2:
        raise ArgumentError(f"folds={folds}: all subjects are in fold {numbers[0]}; expected at least two folds")
    hold_out(content, fold=numbers[0], **fold_options)  # refuses bad arguments
    first = texts_of(options, {"fold": numbers[0]}, "--")  # refuses other names in braces
    training, evaluation = _split_options(bundle, overlays, _with_absolute_paths(options, numbers), first)
    files = {"source": source}
    stated = {name: value for name, value in fold_options.items() if value is not None}
    dealt = {"folds": folds, "fold": "{fold}"} | stated
    if isinstance(folds, str):
        files["folds"], dealt["folds"] = _absolute("folds", folds), "{folds}"
    entry = {
        "bundle": bundle,
        "datalist": "datalist",
        "overlays": list(overlays),
        "options": training,
        "evaluate": fold_options["fold_to"],
        "evaluation": evaluation,
        "pool": "fold",
    }
    study = {
        "datalists": {"datalist": {"from": "source", "files": [*files], "for": {"fold": numbers}, "options": dealt}},
        "runs": {bundle: entry},
    }
    setup = Setup(bundle, source, entry, numbers, open_study(study, Places(folder, {OWN: root}, files, gpus)))
    _check_configs(setup)
    return setup


def _absolute(name: str, path: Any) -> Path:
    with reporting_path_errors(f"--{name}={path}"):
        return expand_home(path, f"--{name}={path}").resolve()


def _with_absolute_paths(options: Mapping[str, Any], numbers: Sequence[int]) -> dict[str, Any]:
    """Make paths absolute, as the bundle runs in a different folder; raise if a fold's `pretrained` file is missing."""
    paths = {
        name: _absolute(name, value)
        for name, value in options.items()
        if name in OPTIONS and OPTIONS[name].kind in (FILE, FOLDER) and optional(value) is not None
    }
    for number in numbers if "pretrained" in paths else ():
        if not (file := Path(str(paths["pretrained"]).replace("{fold}", str(number)))).is_file():
            raise ArgumentError(f"pretrained={options['pretrained']}: no file {file}; expected a checkpoint")
    return dict(options) | {name: str(path) for name, path in paths.items()}


def _split_options(
    bundle: str, overlays: Sequence[str], options: Mapping[str, Any], first: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options of training and the options of evaluation; an option may belong to both.

    Raises an InputError for an unknown overlay or option, for options that this command sets, and for invalid values;
    `first` has the options of the first fold.
    """
    configs = BUNDLES / bundle / "configs"
    check_overlays(bundle, overlays)
    for name in options:
        if re.fullmatch(TAKEN, name):
            raise ArgumentError(f"{name}={options[name]}: set by this command for each fold; leave it out")
    for_training = [configs / name for name in ("train.yaml", *overlays)]
    check_early([*for_training, configs / "evaluate.yaml"], {name: parsed(name, first[name]) for name in first})
    check_known(options, [*for_training, configs / "evaluate.yaml"])
    train, evaluate = read(for_training), read([configs / "evaluate.yaml"])
    return (
        {name: value for name, value in options.items() if name in train},
        {name: value for name, value in options.items() if name in evaluate and (name in OPTIONS or name not in train)},
    )


def _check_configs(setup: Setup) -> None:
    """Check the first fold's options as its training run and evaluation do, and the datalist's files."""
    first = setup.numbers[0]
    options = _resolved(setup.training(first).command, setup.datalist, "options")
    data = datalists.Datalist(setup.datalist, setup.study.places.roots[OWN])
    for split in ("training", "validation"):
        if data.content.get(split):
            data.load(split, options.modalities, options.label_convention, missing=())
    steps_of(setup.training(first), setup.study.places.gpus)
    _resolved(setup.evaluation(first).command, setup.datalist, "options", "scoring")


def _resolved(command: CommandLine, datalist: Path, *names: str) -> Any:
    """Resolve the keys `names` of a config as a run with this command does; return the value of the first key."""
    # The fold's datalist is written later; a cluster's head node has no GPU
    with blaming([Change(name, value) for name, value in command.options.items()]):
        parser = config_of(command, datalist=str(datalist), device="cpu")
        contents = {name: parser.get_parsed_content(name) for name in names if name in parser}
    return contents[names[0]]
