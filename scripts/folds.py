"""Cross-validation: `python -m scripts.folds BUNDLE --datalist=F.json --dataset_dir=DIR --output=DIR`."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from common import cli
from common.configs import BUNDLES, parsed, read
from common.data import datalists
from common.errors import InputError, show
from common.files import expand_home
from common.literals import names_of
from common.options import OPTIONS
from scripts.datalists.splits import hold_out, numbers_of
from scripts.run import check_early, read_command_line
from scripts.steps import run_step


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
    person: str | None = None,
    overlays: str | Sequence[str] = (),
    recipe: str = "text",
    jobs: int = 1,
    **options: str,
) -> None:
    """Train one model for each fold, score all held-out cases together, and print how to use the models as an ensemble.

    Repeat the command to continue. A fold that fails does not stop the others; the exit status is then 1. In the values
    of the bundle's options, `{fold}` becomes the number of the fold, as in --pretrained=stage2/fold{fold}.pt.

    Args:
        bundle: bundle to train, such as brats_finetune.
        datalist: JSON file of labelled subjects, not yet divided into folds; those of its `testing` split are not used.
        dataset_dir: folder that the datalist's paths are relative to.
        output: folder of all results.
        folds: number of random folds, or a JSON file like SwinUNETR's brats21_folds.json.
        fold_to: split of the held-out fold. In `testing` it only gives the score, and --validation sets aside subjects
            to choose the checkpoint. In `validation` it does both, as in the paper.
        validation: number or fraction of people outside the fold, set aside to choose the checkpoint; 0.1 by default.
        folds_seed: seed of the folds, 0 or more; --seed is the seed of the training runs.
        person: regular expression whose first group is the person in a subject's name, as in `datalists generic`.
        overlays: configs of the bundle that change its train.yaml, such as segresnet.
        recipe: recipe of the training, as for python -m scripts.run.
        jobs: folds at a time; if more than 1, their output goes to OUTPUT/fold0.log and so on.
        options: further options of the bundle; python -m scripts.options BUNDLE lists them.
    """
    folder, numbers = expand_home(output, f"--output={output}").resolve(), numbers_of(folds)
    if taken := {"checkpoint", "ckpt_dir", "output_dir", "resume", "split"} & options.keys():
        raise InputError(f"--{min(taken)}: set for each fold; leave it out")
    files, _ = read_command_line([bundle, "train", *names_of(overlays), f"--recipe={recipe}"])
    scoring_file = str(BUNDLES / bundle / "configs/evaluate.yaml")
    first = {name: parsed(name, text.replace("{fold}", str(numbers[0]))) for name, text in options.items()}
    check_early([*files, scoring_file], first)  # before hours of training
    trains, scores = read(files), read([scoring_file])
    training = {name: text for name, text in options.items() if name in trains or name not in scores}
    scoring = {name: options[name] for name in options if name in scores and (name in OPTIONS or name not in trains)}
    dealing = {"folds": folds, "fold_to": fold_to, "seed": folds_seed, "validation": validation, "person": person}
    hold_out(datalists.read(datalist), fold=numbers[0], **dealing)  # type: ignore[arg-type]
    environment = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // jobs)), **os.environ}
    folder.mkdir(parents=True, exist_ok=True)

    def train_and_score(fold: int) -> int:  # returns the exit status
        place, log = folder / f"fold{fold}", folder / f"fold{fold}.log" if jobs > 1 else None
        model, made = place / "models/model.pt", place / "datalist.json"
        data = {"dataset_dir": dataset_dir, "datalist": made}
        fixed = {"recipe": recipe, "output_dir": place / "training", "ckpt_dir": model.parent, "resume": "auto"}
        score = {"checkpoint": model, "output_dir": place / "evaluation", "split": fold_to}
        deal = {"datalist": datalist, "fold": fold, "output": made}
        try:
            run_step(["scripts.datalists", "fold", *_words(deal | dealing, fold)], log=log)
            words = ["scripts.run", bundle, "train", *names_of(overlays), *_words(data | fixed | training, fold)]
            run_step(words, model, [made], model.parent, log, environment)
            words = ["scripts.run", bundle, "evaluate", *_words(data | score | scoring, fold)]
            run_step(words, place / "evaluation/summary.json", [made, model], None, log, environment)
        except SystemExit as error:
            return int(error.code or 1)
        return 0

    with ThreadPoolExecutor(jobs) as pool:
        if any(list(pool.map(train_and_score, numbers))):
            raise SystemExit(1)
    evaluations = [folder / f"fold{fold}/evaluation" for fold in numbers]
    run_step(["scripts.evaluate", "pool", *evaluations, *_words({"data": dataset_dir, "output": folder / "pooled"}, 0)])
    models = {"checkpoint": [f"{folder}/fold{fold}/models/model.pt" for fold in numbers], "dataset_dir": "SCANS"}
    show("", cli.command_line(["python", "-m", "scripts.run", bundle, "inference", *_words(models, 0)]))


def _words(options: Mapping[str, Any], fold: int) -> list[str]:
    return [f"--{k}={v}".replace("{fold}", str(fold)) for k, v in options.items() if v is not None]


if __name__ == "__main__":
    cli.run(folds, "folds")
