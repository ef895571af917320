"""Records of nnU-Net's trainer."""

import json
from types import SimpleNamespace

import torch

from scripts.nnunet import steps


def test_without_mirroring_neither_crops_nor_windows_are_mirrored():
    trainer = SimpleNamespace(
        configure_rotation_dummyDA_mirroring_and_inital_patch_size=lambda: (0.5, False, [8, 8, 8], (0, 1, 2)),
        inference_allowed_mirroring_axes=(0, 1, 2),
    )
    steps.stop_mirroring(trainer)
    crops = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    assert crops == (0.5, False, [8, 8, 8], None)
    assert trainer.inference_allowed_mirroring_axes is None


def test_a_dice_of_no_voxels_does_not_spoil_the_record():
    logged = {
        "epoch_start_timestamps": [10.0, 20.0],
        "epoch_end_timestamps": [14.0, 25.0],
        "train_losses": [0.5, 0.25],
        "val_losses": [0.5, 0.25],
        "mean_fg_dice": [float("nan"), 0.125],
    }
    trainer = SimpleNamespace(
        num_epochs=2, network=torch.nn.Linear(3, 2), logger=SimpleNamespace(get_value=lambda name, step: logged[name])
    )
    record = steps.history(trainer, 4)
    json.dumps(record, allow_nan=False)
    assert record["validation"]["metrics"]["pseudo_dice"] == [None, 0.125]
    assert record["train"]["iteration"] == [4, 8]
    assert record["training_seconds"] == 9.0
    assert record["parameters"] == 8
