"""The summary of a cross-validation, from synthetic evaluations."""

import numpy as np
import pytest

from common.inference.results import write
from common.metrics import Scores, protocol
from scripts.evaluate.folders import named_folders, pool
from scripts.folds.summary import inference, lines
from tests.scripts.evaluate.evaluations import write_evaluation

DICE = {0: [0.9, 0.5, 0.7], 1: [0.3, 0.5]}  # by fold and case, of the region lesion


@pytest.fixture
def evaluated(prepare):
    """A cross-validation with all of its evaluations."""
    setup, rules = prepare(), protocol("dice")
    for fold, values in DICE.items():
        cases = {
            f"p{fold}{n}": {"lesion": Scores({"dice": value}, volumes=(1.0, 1.0 - fold))}
            for n, value in enumerate(values)
        }
        write_evaluation(setup.evaluation(fold).results, cases, rules)
    folders = named_folders("pool", [str(setup.evaluation(fold).results) for fold in DICE])
    write(setup.study.jobs["brats_finetune/pooled"].results, pool(folders))
    return setup


def test_figures_are_of_all_cases_and_of_each_fold(evaluated):
    shown = lines(evaluated)
    assert shown[0] == "5 cases by dice, each predicted by the model of its fold"
    (dice,) = [line.split() for line in shown if line.startswith("lesion  dice ")]
    means = [np.mean(values) for values in DICE.values()]
    pooled, of_folds = np.mean([*DICE[0], *DICE[1]]), (np.mean(means), np.std(means, ddof=1), *means)
    assert [float(dice[2]), int(dice[3])] == [pytest.approx(pooled), 5]
    assert [float(word) for word in dice[4:] if word != "±"] == pytest.approx(of_folds, rel=0.02)
    (present,) = [line.split() for line in shown if line.startswith("lesion  dice_present ")]
    assert present[-3:] == ["0.7", "0.7", "-"], "of fold 1 no reference has the lesion"
    runs = evaluated.study.places.output / "runs/brats_finetune"
    for fold in DICE:
        where = f"model {runs}/fold{fold}/models/model.pt, predictions {runs}/fold{fold}/eval/evaluation/predictions"
        assert f"fold {fold}: {where}" in shown
    assert f"page of all cases: {runs}/pooled/evaluation.html" in shown
    assert shown[-1].startswith("cd bundles/brats_finetune && python -m monai.bundle run --config_file=configs/infer")


def test_inference_has_all_models_and_no_option_that_they_state_or_that_differs_between_folds(prepare):
    of_training = {"model_size": "tiny", "iterations": "4", "val_interval": "2", "warmup_iterations": "0"}
    setup = prepare(**of_training, overlap="0.25", device="cuda:{fold}", seed="{fold}")
    runs = setup.study.places.output / "runs/brats_finetune"
    assert set(inference(setup).words[5:]) == {
        "--dataset_dir=SCANS",
        "--output_dir=PREDICTIONS",
        f"--checkpoint=['{runs}/fold0/models/model.pt','{runs}/fold1/models/model.pt']",
        "--overlap=0.25",
    }
