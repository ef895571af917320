"""Cross-validation: `python -m scripts.folds BUNDLE --datalist=F.json --dataset_dir=DIR --output=DIR`."""

import os
import shlex
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from common.errors import InputError, show
from common.files import digest, move_aside, read_json, write_json
from common.options import check_used
from common.values import OPTIONS
from scripts import cli
from scripts.cli import run_step, words_of
from scripts.configs import BUNDLES, as_data, read_config
from scripts.datalists.splits import fold as deal
from scripts.datalists.splits import members_of
from scripts.run import config_files, typed


def folds(
    bundle: str,
    *,
    datalist: str,
    dataset_dir: str,
    output: str,
    folds: str | int = 5,
    fold_to: str = "testing",
    validation: float | None = None,
    folds_seed: int = 0,
    overlays: Sequence[str] = (),
    recipe: str = "text",
    jobs: int = 1,
    **options: str,
) -> None:
    """Train one model for each fold, score all held-out cases together, and print how to use the models as an ensemble.

    Repeat the command to continue. `{fold}` in a value is the fold's number, as in --pretrained=stage2/fold{fold}.pt.

    Args:
        bundle: bundle to train, such as brats_finetune.
        datalist: JSON file of labelled subjects; those of its `testing` split are not used.
        dataset_dir: folder that the datalist's paths are relative to.
        output: folder of all results.
        folds: number of random folds, or a JSON file like SwinUNETR's brats21_folds.json.
        fold_to: split of the held-out fold: testing, or validation, where it also chooses the checkpoint (paper).
        validation: number or fraction of people outside the fold who choose the checkpoint; 0.1 by default.
        folds_seed: seed of the folds, 0 or more; --seed is the seed of the training runs.
        overlays: configs that change train.yaml, such as segresnet, or YAML files.
        recipe: recipe of the training, as for python -m scripts.run.
        jobs: folds at a time; if more than 1, their output goes to OUTPUT/fold0.log and so on.
        options: further options of the bundle; python -m scripts.options BUNDLE lists them.
    """
    folder, numbers = Path(output).expanduser().resolve(), [*members_of(folds)]
    if taken := {"checkpoint", "ckpt_dir", "output_dir", "resume", "split"} & options.keys():
        raise InputError(f"--{min(taken)}: set for each fold; leave it out")
    trains = read_config(config_files(bundle, "train", overlays, recipe))
    scores = read_config([BUNDLES / bundle / "configs/evaluate.yaml"])
    training = [name for name in options if name in trains or name not in scores]
    scoring = [name for name in options if name in scores and (name in OPTIONS or name not in trains)]
    first = {name: typed(name, text.replace("{fold}", str(numbers[0]))) for name, text in options.items()}
    trains.update(as_data({name: first[name] for name in training}))
    check_used(trains.config)  # before anything is written
    for fold in numbers:
        made = str(folder / f"fold{fold}/datalist.json")
        deal(datalist, made, folds, fold, fold_to, validation, folds_seed)
    environment = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // jobs)), **os.environ}

    def train_and_score(fold: int) -> int:  # returns the exit status
        place, log = folder / f"fold{fold}", folder / f"fold{fold}.log" if jobs > 1 else None
        model, made = place / "models/model.pt", place / "datalist.json"
        values = {name: text.replace("{fold}", str(fold)) for name, text in options.items()}
        data = {"dataset_dir": dataset_dir, "datalist": made}
        train = data | {"recipe": recipe, "output_dir": place / "training", "ckpt_dir": model.parent, "resume": "auto"}
        train |= {name: values[name] for name in training}
        evaluate = data | {"checkpoint": model, "output_dir": place / "evaluation", "split": fold_to}
        evaluate |= {name: values[name] for name in scoring}
        try:
            words = ["scripts.run", bundle, "train", *overlays, *words_of(train)]
            run_once(words, model, [made, *filter(Path.is_file, map(Path, overlays))], log, environment)
            words = ["scripts.run", bundle, "evaluate", *words_of(evaluate)]
            run_once(words, place / "evaluation/summary.json", [made, model], log, environment)
        except SystemExit as error:
            return int(error.code or 1)
        return 0

    with ThreadPoolExecutor(jobs) as pool:
        if any(list(pool.map(train_and_score, numbers))):
            raise SystemExit(1)
    evaluations = [folder / f"fold{fold}/evaluation" for fold in numbers]
    names = ",".join(f"fold{fold}" for fold in numbers)
    run_step(["scripts.evaluate", "pool", *evaluations, f"--output={folder / 'pooled'}", f"--names={names}"])
    new = {"checkpoint": [f"{folder}/fold{fold}/models/model.pt" for fold in numbers], "dataset_dir": "SCANS"}
    show("", shlex.join(["python", "-m", "scripts.run", bundle, "inference", *words_of(new)]))


def run_once(
    command: Sequence[str], target: Path, inputs: Sequence[Path], log: Path | None, environment: Mapping[str, str]
) -> None:
    """Run `python -m COMMAND`, unless `target` is there, made by this command from these input files.

    The command and the SHA-256 of its inputs are kept beside `target`; if they have changed, its folder is moved aside.
    """
    stamp, done = target.with_name(f".{target.name}.step.json"), {"command": command, "inputs": [*map(digest, inputs)]}
    if target.exists() and stamp.is_file():
        if read_json(stamp) == done:
            show(f"done before  {target}")
            return
        show(f"moved aside  {target.parent}: its command or input has changed")
        move_aside(target.parent)
    run_step(command, log, environment)
    write_json(stamp, done)


if __name__ == "__main__":
    cli.run(folds, "folds")
