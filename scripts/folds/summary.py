"""Summarise a cross-validation: scores of all held-out cases, models, predictions, and use of the ensemble."""

import re
from pathlib import Path

import numpy as np

from common.files import read_json, read_yaml
from common.inference.publishing import PAGE
from common.weights.formats import STATED
from scripts.experiments.jobs import ROOT, CommandLine, texts_of
from scripts.folds.setup import Setup


def inference(setup: Setup) -> CommandLine:
    """The command that segments new scans with the models of all folds as an ensemble."""
    bundle: Path = ROOT / "bundles" / setup.bundle
    known = read_yaml(bundle / "configs/inference.yaml")
    given = setup.entry["options"] | setup.entry["evaluation"]
    options = {
        name: value
        for name, value in given.items()
        if name in known and name not in STATED and not re.search(r"\{\w+\}", str(value))  # of a single fold
    }
    checkpoints = [str(setup.training(number).target) for number in setup.numbers]
    places = {"config_file": "configs/inference.yaml", "dataset_dir": "SCANS", "output_dir": "PREDICTIONS"}
    texts = texts_of({**places, "checkpoint": checkpoints, **options}, {}, "inference")
    return CommandLine(("python", "-m", "monai.bundle", "run"), texts, bundle)


def lines(setup: Setup) -> list[str]:
    """The terminal output once all jobs are done, by region and metric.

    That is the mean over all cases with its interval, the mean and sample standard deviation of the folds' means, and
    these means.
    """
    evaluations = [setup.evaluation(number).results for number in setup.numbers]
    pooled = setup.study.jobs[f"{setup.bundle}/pooled"].results
    of_all, *of_folds = (read_json(place / "summary.json") for place in (pooled, *evaluations))
    head = f"{'region':<8}{'metric':<25}{'pooled':>10}{'cases':>7}  {'95 % interval':<24}{'mean of folds':<24}"
    text = [
        f"{of_all['cases']} cases, each predicted by the model of the fold that held it out; by {of_all['protocol']}",
        "",
        head + "".join(f"{f'fold {number}':>10}" for number in setup.numbers),
    ]
    for region, metrics in of_all["regions"].items():
        for metric, figures in metrics.items():
            means = [fold["regions"][region][metric]["mean"] for fold in of_folds]
            known = [mean for mean in means if mean is not None]
            interval = "" if figures["ci95"] is None else "[{:.4g}, {:.4g}]".format(*figures["ci95"])
            spread = f" ± {np.std(known, ddof=1):.2g}" if len(known) > 1 else ""
            mean = f"{_shown(float(np.mean(known)) if known else None)}{spread}"
            row = f"{region:<8}{metric:<25}{_shown(figures['mean']):>10}{figures['n']:>7}  {interval:<24}{mean:<24}"
            each = "".join(f"{_shown(one):>10}" for one in means)
            text.append(f"{row}{each}  {figures['unit'] if figures['unit'] != '1' else ''}".rstrip())
    return [
        *text,
        "",
        *(
            f"fold {number}: model {setup.training(number).target}, predictions {place / 'predictions'}"
            for number, place in zip(setup.numbers, evaluations, strict=True)
        ),
        f"page of all cases: {pooled / PAGE}",
        "",
        "to segment new scans with all models as one ensemble:",
        str(inference(setup)),
    ]


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
