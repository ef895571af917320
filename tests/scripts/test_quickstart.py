"""The quick start's summary and thresholds, on hand-made records."""

import copy

import pytest

from scripts.quickstart import shortfalls

STAGES = ("ukb_ssl_pretrain", "brats_stage2", "atlas_stage2", "brats_finetune", "atlas_finetune")
SUMMARY = {
    "seconds": 600.0,
    "losses": {name: {"total": [3.0, 2.0]} for name in STAGES},
    "scores": {
        "brats_finetune": {"WT": 0.9, "TC": 0.85, "ET": 0.81},
        "atlas_finetune": {"lesion": 0.66},
    },
}


@pytest.fixture
def summary():
    return copy.deepcopy(SUMMARY)


@pytest.mark.parametrize("last", [2.9, float("nan")])
def test_each_loss_must_fall(summary, last):
    for bundle in STAGES:
        summary["losses"][bundle]["total"] = [3.0, last]
    message = f"total went from 3.000 to {last:.3f}"
    assert shortfalls(summary) == [f"{bundle}: {message}" for bundle in STAGES]


@pytest.mark.parametrize(("rotation", "is_short"), [([1.0, 0.5], False), ([1.0, 0.9], True)])
def test_a_pretraining_must_lower_the_terms_that_it_can_learn_in_minutes(summary, rotation, is_short):
    terms = {"reconstruction": [1.0, 1.0], "rotation": rotation, "contrastive": [1.0, 1.5]}
    summary["losses"]["brats_stage2"] = {"total": [3.0, 3.0]} | terms
    line = "brats_stage2: reconstruction + rotation went from 2.000 to 1.900"
    assert shortfalls(summary) == ([line] if is_short else [])
