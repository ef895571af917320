"""The quick start's thresholds, on hand-made summaries."""

import pytest

from scripts.quickstart import STAGES, shortfalls

SCORES = {"brats_finetune": {"WT": 0.9, "TC": 0.85, "ET": 0.81}, "atlas_finetune": {"lesion": 0.66}}


@pytest.mark.parametrize(("last", "lesion"), [(2.9, 0.64), (float("nan"), float("nan"))])
def test_each_loss_must_fall_and_each_dice_reach_its_threshold(last, lesion):
    losses = {name: {"total": [3.0, last]} for name in STAGES}
    lines = shortfalls({"losses": losses, "scores": SCORES | {"atlas_finetune": {"lesion": lesion}}})
    message = f"total went from 3.000 to {last:.3f}"
    expected = [f"{bundle}: {message}" for bundle in STAGES]
    assert lines == [f"atlas_finetune: mean Dice of lesion {lesion:.3f}", *expected]


@pytest.mark.parametrize(("rotation", "is_short"), [([1.0, 0.5], False), ([1.0, 0.9], True)])
def test_a_pretraining_must_lower_the_terms_that_it_can_learn_in_minutes(rotation, is_short):
    terms = {"total": [3.0, 3.0], "reconstruction": [1.0, 1.0], "rotation": rotation, "contrastive": [1.0, 1.5]}
    line = "brats_stage2: reconstruction + rotation went from 2.000 to 1.900"
    assert shortfalls({"losses": {"brats_stage2": terms}, "scores": SCORES}) == ([line] if is_short else [])
