"""nnU-Net's trainer for as many iterations as beside_nnunet.yaml says; nnU-Net finds it by nnUNet_extTrainer."""

import os
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


class ShortTrainer(nnUNetTrainer):
    """20 epochs of ITERATIONS iterations; the learning rate falls to 0 over them."""

    def __init__(self, plans: dict, configuration: str, fold: int, dataset_json: dict, device: torch.device) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs, self.num_iterations_per_epoch = 20, int(os.environ["ITERATIONS"])
        self.num_val_iterations_per_epoch = max(1, self.num_iterations_per_epoch // 5)


class ShortTrainerNoMirroring(ShortTrainer):
    """The same without mirroring, in crops and windows."""

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> tuple[Any, ...]:  # noqa: N802
        rotation, is_2d, patch_size, _ = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        self.inference_allowed_mirroring_axes = None
        return rotation, is_2d, patch_size, None
