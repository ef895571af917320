"""The quick start's thresholds, on hand-made scores."""

from scripts.quickstart import shortfalls


def test_each_dice_must_reach_its_threshold():
    scores = {"brats_finetune": {"WT": 0.9, "TC": 0.75, "ET": 0.74}, "atlas_finetune": {"lesion": float("nan")}}
    expected = ["brats_finetune: mean Dice of ET 0.740", "atlas_finetune: mean Dice of lesion nan"]
    assert shortfalls(scores) == expected
