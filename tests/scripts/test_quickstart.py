"""The quick start's summary and thresholds, on hand-made records."""

import copy
import json

import pytest

from scripts.quickstart import shortfalls, summarise

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


def write(file, content):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


def test_records_are_summarised(tmp_path):
    for name in STAGES:
        tuned = name.endswith("finetune")
        metrics = {"dice": [0.1, 0.7]} if tuned else {"total": [9.0, 3.0, 4.0], "rotation": [1.5, 1.7, 1.0]}
        cosine = {} if tuned else {"contrastive_cosine": [0.5, 0.1, 0.2]}  # not a loss
        losses = {"total": [1.9, 0.4, 0.5]} | ({} if tuned else {"rotation": [1.4, 0.9, 0.8]})
        record = {"train": {"loss": losses}, "validation": {"metrics": metrics | cosine}}
        write(tmp_path / name / "eval/run.json", record)
    for name, means in (("brats_finetune", {"WT": 0.8, "TC": 0.7, "ET": 0.6}), ("atlas_finetune", {"lesion": 0.5})):
        regions = {region: {"dice": {"mean": mean}} for region, mean in means.items()}
        write(tmp_path / name / "eval/evaluation/summary.json", {"regions": regions})
    summary = summarise(tmp_path)
    assert list(summary["losses"]) == list(STAGES)
    assert summary["losses"]["ukb_ssl_pretrain"] == {"total": [9.0, 4.0], "rotation": [1.5, 1.0]}, "on held-out crops"
    assert summary["losses"]["atlas_finetune"] == {"total": [1.9, 0.5]}, "of the training"
    assert summary["scores"]["brats_finetune"]["ET"] == 0.6


@pytest.mark.parametrize("score", [0.3, float("nan")])
@pytest.mark.parametrize(("bundle", "region"), [("brats_finetune", "ET"), ("atlas_finetune", "lesion")])
def test_each_region_counts_and_the_duration_does_not(summary, bundle, region, score):
    summary["seconds"] = 100 * 3600
    assert shortfalls(summary) == []
    summary["scores"][bundle][region] = score
    (line,) = shortfalls(summary)
    assert line.startswith(f"{bundle}: mean Dice of {region} {score:.3f}")


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
