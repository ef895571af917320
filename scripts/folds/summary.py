"""Summarise a cross-validation: scores of all held-out cases, models, predictions, and use of the ensemble."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from common.files import read_json
from common.inference.publishing import PAGE
from common.weights.formats import STATED
from scripts.experiments.jobs import ROOT, CommandLine, words_of
from scripts.folds.setup import Setup


def summarise(setup: Setup) -> dict[str, Any]:
    """The content of folds.json once all jobs are done.

    `scores`, by region and metric: over all cases (`pooled`, `ci95`, `n`), the mean of each fold, and the mean and
    sample standard deviation of the folds' means.
    """
    evaluations = [setup.evaluation(number).results for number in setup.numbers]
    pooled = setup.study.jobs[f"{setup.bundle}/pooled"].results
    of_all = read_json(pooled / "summary.json")
    folds = [read_json(place / "summary.json") for place in evaluations]
    return {
        "bundle": setup.bundle,
        "folds": len(setup.numbers),
        "datalist": str(setup.datalist),
        "protocol": of_all["protocol"],
        "cases": of_all["cases"],
        "scores": {
            region: {
                metric: _figures(figures, [fold["regions"][region][metric]["mean"] for fold in folds])
                for metric, figures in metrics.items()
            }
            for region, metrics in of_all["regions"].items()
        },
        "checkpoints": [str(setup.training(number).target) for number in setup.numbers],
        "predictions": [str(place / "predictions") for place in evaluations],
        "evaluation": str(pooled / PAGE),
        "inference": str(inference(setup)),
    }


def _figures(pooled: Mapping[str, Any], means: Sequence[float | None]) -> dict[str, Any]:
    known = [mean for mean in means if mean is not None]
    return {
        "unit": pooled["unit"],
        "pooled": pooled["mean"],
        "ci95": pooled["ci95"],
        "n": pooled["n"],
        "mean_of_folds": float(np.mean(known)) if known else None,
        "sd_of_folds": float(np.std(known, ddof=1)) if len(known) > 1 else None,
        "folds": list(means),
    }


def inference(setup: Setup) -> CommandLine:
    """The command that segments new scans with the models of all folds as an ensemble."""
    bundle: Path = ROOT / "bundles" / setup.bundle
    known = yaml.safe_load((bundle / "configs" / "inference.yaml").read_text(encoding="utf-8"))
    given = setup.entry["options"] | setup.entry["evaluation"]
    options = {
        name: value
        for name, value in given.items()
        if name in known and name not in STATED and not re.search(r"\{\w+\}", str(value))  # of a single fold
    }
    checkpoints = [str(setup.training(number).target) for number in setup.numbers]
    words = [
        *("python", "-m", "monai.bundle", "run", "--config_file=configs/inference.yaml"),
        *("--dataset_dir=SCANS", "--output_dir=PREDICTIONS"),
        *words_of({"checkpoint": checkpoints, **options}, {}, "inference"),
    ]
    return CommandLine(tuple(words), bundle)


def lines(content: Mapping[str, Any], numbers: Sequence[int]) -> list[str]:
    """The terminal output for the content of folds.json."""
    head = f"{'region':<8}{'metric':<25}{'pooled':>10}{'cases':>7}  {'95 % interval':<24}{'mean of folds':<24}"
    text = [
        f"{content['cases']} cases, each predicted by the model of the fold that held it out; by {content['protocol']}",
        "",
        head + "".join(f"{f'fold {number}':>10}" for number in numbers),
    ]
    for region, metrics in content["scores"].items():
        for metric, figures in metrics.items():
            interval = "" if figures["ci95"] is None else "[{:.4g}, {:.4g}]".format(*figures["ci95"])
            spread = "" if figures["sd_of_folds"] is None else f" ± {figures['sd_of_folds']:.2g}"
            mean = f"{_shown(figures['mean_of_folds'])}{spread}"
            row = f"{region:<8}{metric:<25}{_shown(figures['pooled']):>10}{figures['n']:>7}  {interval:<24}{mean:<24}"
            of_folds = "".join(f"{_shown(one):>10}" for one in figures["folds"])
            text.append(f"{row}{of_folds}  {figures['unit'] if figures['unit'] != '1' else ''}".rstrip())
    places = zip(numbers, content["checkpoints"], content["predictions"], strict=True)
    return [
        *text,
        "",
        *(f"fold {number}: model {model}, predictions {predictions}" for number, model, predictions in places),
        f"page of all cases: {content['evaluation']}",
        "",
        "to segment new scans with all models as one ensemble:",
        content["inference"],
    ]


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
