"""Summarise a cross-validation: scores of all held-out cases, models, predictions, and use of the ensemble."""

import re

import numpy as np

from common.configs import BUNDLES
from common.errors import aligned
from common.files import read_json, read_yaml
from common.inference.publishing import PAGE
from common.weights.formats import STATED
from scripts.experiments.jobs import CommandLine, texts_of
from scripts.folds.setup import Setup


def inference(setup: Setup) -> CommandLine:
    """Return the command that segments new scans with the models of all folds as an ensemble."""
    bundle = BUNDLES / setup.bundle
    defaults = read_yaml(bundle / "configs/inference.yaml")
    entry = setup.entry["options"] | setup.entry["evaluation"]
    options = {
        name: value
        for name, value in entry.items()
        if name in defaults and name not in STATED and not re.search(r"\{\w+\}", str(value))  # for a single fold
    }
    checkpoints = [str(setup.training(number).target) for number in setup.numbers]
    paths = {"config_file": "configs/inference.yaml", "dataset_dir": "SCANS", "output_dir": "PREDICTIONS"}
    texts = texts_of({**paths, "checkpoint": checkpoints, **options}, {}, "inference")
    return CommandLine(("python", "-m", "monai.bundle", "run"), texts, bundle)


def lines(setup: Setup) -> list[str]:
    """Return the terminal output of a finished cross-validation, with a row for each region and metric.

    A row has the mean over all cases with its interval, the mean and sample standard deviation of the folds' means, and
    the folds' means.
    """
    evaluations = [setup.evaluation(number).results for number in setup.numbers]
    pooled = setup.study.jobs[f"{setup.bundle}/pooled"].results
    of_all, *of_folds = (read_json(folder / "summary.json") for folder in (pooled, *evaluations))
    folds = [f"fold {number}" for number in setup.numbers]
    rows: list[tuple[object, ...]] = [
        ("region", "metric", "pooled", "cases", "95 % interval", "mean of folds", *folds, "")
    ]
    text = [
        f"{of_all['cases']} cases by {of_all['protocol']}, each predicted by the model of its fold",
        "",
    ]
    for region, metrics in of_all["regions"].items():
        for metric, figures in metrics.items():
            means = [fold["regions"][region][metric]["mean"] for fold in of_folds]
            defined = [mean for mean in means if mean is not None]
            interval = "" if figures["ci95"] is None else "[{:.4g}, {:.4g}]".format(*figures["ci95"])
            spread = f" ± {np.std(defined, ddof=1):.2g}" if len(defined) > 1 else ""
            mean = f"{_shown(float(np.mean(defined)) if defined else None)}{spread}"
            unit = figures["unit"] if figures["unit"] != "1" else ""
            rows.append(
                (region, metric, _shown(figures["mean"]), figures["n"], interval, mean, *map(_shown, means), unit)
            )
    return [
        *text,
        *aligned(rows, right=(2, 3, *range(6, 6 + len(folds)))),
        "",
        *(
            f"fold {number}: model {setup.training(number).target}, predictions {folder / 'predictions'}"
            for number, folder in zip(setup.numbers, evaluations, strict=True)
        ),
        f"page of all cases: {pooled / PAGE}",
        "",
        "to segment new scans with all models as an ensemble:",
        str(inference(setup)),
    ]


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
