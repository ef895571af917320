"""Cross-validation: `python -m scripts.folds BUNDLE --datalist=F.json --dataset_dir=DIR --output=DIR`."""

from collections.abc import Mapping, Sequence
from typing import Any

from common import cli
from common.errors import check_number, choice, show
from common.literals import names_of
from scripts.experiments.engine import counted, log_of, run_jobs, select, states_of
from scripts.folds.setup import set_up
from scripts.run import RECIPES


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
    recipe: str = "text",
    overlays: str | Sequence[str] | None = None,
    jobs: int = 1,
    gpus: int = 1,
    stale: str = "keep",
    slurm: Mapping[str, Any] | None = None,
    **options: Any,
) -> None:
    """Train one model for each fold, score all held-out cases together, and print how to use the models as an ensemble.

    Repeat the command to continue an interrupted run. A failed fold is reported with its log and does not stop the
    others; the exit status is then 1. The folds divide the subjects of `training` and `validation`; the subjects of
    `testing` are not used, so that they can test the ensemble.

    All further options are the bundle's, such as --model_size=tiny or --pretrained=FILE. In their values, `{fold}`
    becomes the number of the fold, as in --pretrained=stage2/fold{fold}.pt or --device=cuda:{fold}. SLURM jobs need
    settings such as --slurm="{'slurm_partition': 'gpu', 'gpus_per_node': 1, 'timeout_min': 1440}".

    Args:
        bundle: bundle to train, such as brats_finetune.
        datalist: JSON file of labelled subjects, not yet divided into folds.
        dataset_dir: folder that the datalist's paths are relative to.
        output: folder of all results; give an earlier run's folder to continue the run.
        folds: number of random folds, with all visits of a person in the same fold; or a JSON file like SwinUNETR's
            brats21_folds.json.
        fold_to: split of the held-out fold. In `testing` it only gives the score, and --validation sets aside subjects
            to choose the checkpoint. In `validation` it does both, as in the paper.
        validation: number or fraction of people outside the fold, set aside to choose the checkpoint; 0.1 by default.
        folds_seed: seed of the folds, 0 or more; --seed is the seed of the training runs.
        person: regular expression whose first group is the person in a subject's name, as in `datalists generic`.
        recipe: text, table, code or robust, as in python -m scripts.run BUNDLE train.
        overlays: configs of the bundle that change its train.yaml, such as segresnet.
        jobs: number of jobs at once; on this machine they share its cores.
        gpus: processes of each training run, started by torchrun.
        stale: keep results whose commands, inputs or code have changed (the default), or redo them; the old results are
            moved aside.
        slurm: settings of SLURM jobs, named as submitit's parameters; without them, jobs run on this machine.
        options: further options of the bundle; python -m scripts.options BUNDLE lists them.
    """
    check_number("jobs", jobs, int, 1, 1024)
    check_number("gpus", gpus, int, 1, 1024)
    check_number("folds_seed", folds_seed, int, 0)
    redo = choice("stale", stale, {"keep": False, "redo": True})
    fold_options = {"folds": folds, "fold_to": fold_to, "seed": folds_seed, "validation": validation, "person": person}
    words = [] if overlays is None else names_of(overlays)
    words = [word if word.endswith(".yaml") else f"{word}.yaml" for word in words]  # `scripts.run` takes either
    if (of_recipe := choice("recipe", recipe, RECIPES)) is not None:
        words.insert(0, of_recipe)
    setup = set_up(bundle, datalist, dataset_dir, output, fold_options, words, gpus, options)
    study, folder = setup.study, setup.study.places.output
    selected = select(study, redo=redo)
    count = f"{len(study.jobs)} jobs, {counted(study.states)}; {len(selected)} to do"
    show(f"{len(setup.numbers)} folds of {bundle}: {count}")
    ended = run_jobs(study, selected, jobs, slurm)
    states = states_of(study.jobs, folder) | {name: state for name, state in ended.items() if state.name == "failed"}
    if unfinished := {name: state for name, state in states.items() if state.name != "done"}:
        for name, state in unfinished.items():
            if not unfinished.keys() & set(study.jobs[name].needs):  # the others only wait for these
                log = log_of(study.jobs[name], folder)
                show(f"{name} is {state.name}: {state.reason}" + (f"; log {log}" if log.is_file() else ""))
        if any(state.name == "stale" for state in unfinished.values()):
            show("stale results were kept; --stale=redo makes them again")
        raise SystemExit(1)
    from scripts.folds import summary  # late import: `--help` stays fast

    show("", *summary.lines(setup))


if __name__ == "__main__":
    cli.run(folds, "folds")
