"""The steps of nnU-Net: plan, preprocess, train, predict.

They call nnU-Net directly, because MONAI 1.6.1's `nnUNetV2Runner` ignores failed training and predicts only on CUDA.
"""

import math
import os
import random
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.experiment_planning.experiment_planners.residual_unets.residual_encoder_unet_planners import (
    nnUNetPlannerResEncL,
)
from nnunetv2.experiment_planning.plan_and_preprocess_api import (
    extract_fingerprints,
    plan_experiment_dataset,
)
from nnunetv2.experiment_planning.plan_and_preprocess_api import preprocess as preprocess_data_sets
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from common.bars import tqdm
from common.data.scan_checks import read_scan
from common.data.volumes import forms_of, open_volume, write_volume
from common.errors import InputError

FINAL = "checkpoint_final.pth"
CONFIGURATION = "3d_fullres"
DATA_SET = "Dataset001_cohort"
PLANS = {  # value of --plans -> planner, GB of GPU memory that it plans for, name of the plans
    "default": (ExperimentPlanner, 8, "nnUNetPlans"),
    "resenc_l": (nnUNetPlannerResEncL, 24, "nnUNetResEncUNetLPlans"),
}
SAVE_EVERY = 50  # epochs; nnU-Net's default


@dataclass(frozen=True)
class Work:
    """The folder and settings of an nnU-Net run.

    `folder` contains nnU-Net's raw, preprocessed and results folders. With 0 workers everything runs in the main
    process where nnU-Net allows it.
    """

    folder: Path
    plans: str
    is_mirrored: bool
    workers: int
    device: torch.device

    @property
    def raw(self) -> Path:
        """The folder of nnU-Net's raw data set, with dataset.json."""
        return self.folder / "nnUNet_raw" / DATA_SET

    @property
    def plans_manager(self) -> PlansManager:
        return PlansManager(str(self.folder / "nnUNet_preprocessed" / DATA_SET / f"{PLANS[self.plans][2]}.json"))

    def __post_init__(self) -> None:
        """Set the environment variables that tell nnU-Net its folders."""
        os.environ["OMP_NUM_THREADS"] = "1"  # nnU-Net's recommendation: it uses processes
        for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
            os.environ[name] = str(self.folder / name)


def prepare(work: Work, gpu_memory: float | None = None, spacing: Sequence[float] | None = None) -> dict[str, Any]:
    """Run nnU-Net's planning and preprocessing; replace the files of an interrupted run.

    If nnU-Net refuses the data, an InputError gives its reason. `gpu_memory`, in GB, and `spacing`, in mm, replace
    nnU-Net's own. Return the plan's patch size, batch size, spacing, network and normalization. nnU-Net samples 10^8
    intensities of each channel from the whole cohort; four channels take 5 GiB.
    """
    planner, memory, name = PLANS[work.plans]
    processes = max(1, work.workers)
    try:
        extract_fingerprints([1], num_processes=processes, check_dataset_integrity=True, verbose=False)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"nnU-Net refuses the data: {reason}") from error
    plan_experiment_dataset(
        1, planner, gpu_memory or memory, overwrite_target_spacing=spacing, overwrite_plans_name=name
    )
    preprocess_data_sets([1], name, (CONFIGURATION,), (processes,))
    configuration = work.plans_manager.get_configuration(CONFIGURATION)
    network = configuration.network_arch_init_kwargs
    return {
        "patch_size": [int(edge) for edge in configuration.patch_size],
        "batch_size": int(configuration.batch_size),
        "spacing": [float(edge) for edge in configuration.spacing],
        "network": configuration.network_arch_class_name.rsplit(".", 1)[-1],
        "features_per_stage": [int(number) for number in network["features_per_stage"]],
        "normalization": list(configuration.normalization_schemes),
    }


def train(work: Work, epochs: int, iterations: int, seed: int) -> dict[str, Any]:
    """Train with nnU-Net's trainer and schedule, or continue an interrupted run; return entries for the record.

    The learning rate falls to 0 over the epochs; each validation takes a fifth of an epoch's iterations. With workers,
    the seed covers only the initial weights, because nnU-Net does not seed its workers.
    """
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  nnU-Net draws from it
    torch.manual_seed(seed)
    checkpoints = checkpoint_folder(work)
    _remove_unfinished(checkpoints)
    continues = any(checkpoints.glob("checkpoint_*.pth"))
    with _augmenting_by(work.workers):
        name = PLANS[work.plans][2]
        trainer = get_trainer_from_args(DATA_SET, CONFIGURATION, 0, "nnUNetTrainer", name, continues, work.device)
        if not work.is_mirrored:
            stop_mirroring(trainer)
        trainer.num_epochs, trainer.num_iterations_per_epoch = epochs, iterations
        trainer.num_val_iterations_per_epoch = max(1, iterations // 5)
        trainer.save_every = max(1, min(SAVE_EVERY, epochs // 20))
        maybe_load_checkpoint(trainer, continues, validation_only=False)
        torch.backends.cudnn.benchmark = work.device.type == "cuda"
        trainer.run_training()
    if not (checkpoints / FINAL).is_file():
        raise RuntimeError(f"{checkpoints / FINAL}: missing, although nnU-Net's training has ended")
    return history(trainer, iterations)


def stop_mirroring(trainer: Any) -> None:
    """Make a trainer mirror nothing, as `nnUNetTrainerNoMirroring` does; predictions follow its checkpoint.

    To find `nnUNetTrainerNoMirroring`, nnU-Net imports all of its trainers; some need torchvision, whose build for GPUs
    fails with PyTorch's for CPUs.
    """
    configure = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size

    def configure_unmirrored() -> tuple[Any, ...]:
        rotation, is_2d, patch_size, _ = configure()
        trainer.inference_allowed_mirroring_axes = None
        return rotation, is_2d, patch_size, None

    trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size = configure_unmirrored


def checkpoint_folder(work: Work) -> Path:
    """Return the folder of the trainer's checkpoints and log."""
    run = f"nnUNetTrainer__{PLANS[work.plans][2]}__{CONFIGURATION}"
    return work.folder / "nnUNet_results" / DATA_SET / run / "fold_0"


def _remove_unfinished(folder: Path) -> None:
    """Remove checkpoints that a killed run was writing, because nnU-Net does not write them atomically."""
    for path in folder.glob("checkpoint_*.pth"):
        if not zipfile.is_zipfile(path):
            path.unlink()


@contextmanager
def _augmenting_by(workers: int) -> Iterator[None]:
    """Set the number of augmenting processes only inside the block, because nnU-Net's planning fails with 0."""
    os.environ["nnUNet_n_proc_DA"] = str(workers)  # noqa: SIM112
    try:
        yield
    finally:
        del os.environ["nnUNet_n_proc_DA"]  # noqa: SIM112


def history(trainer: Any, iterations: int) -> dict[str, Any]:
    """Return parameter count, training time, losses and pseudo-Dice; non-finite values (empty masks) become None."""

    def logged(name: str) -> list[float | None]:
        values = [float(value) for value in trainer.logger.get_value(name, step=None)]
        return [round(value, 6) if math.isfinite(value) else None for value in values]

    at = [(epoch + 1) * iterations for epoch in range(trainer.num_epochs)]
    times = (trainer.logger.get_value(f"epoch_{name}_timestamps", step=None) for name in ("start", "end"))
    return {
        "parameters": sum(parameter.numel() for parameter in trainer.network.parameters()),
        "training_seconds": round(sum(end - start for start, end in zip(*times, strict=True)), 1),
        "train": {"iteration": at, "loss": {"loss": logged("train_losses")}},
        "validation": {
            "iteration": at,
            "metrics": {"loss": logged("val_losses"), "pseudo_dice": logged("mean_fg_dice")},
        },
    }


def prediction(output: Path, case: Mapping[str, Any]) -> Path:
    """Return the path of a case's label map."""
    return output / f"{case['subject']}.nii.gz"


def predict(work: Work, cases: Sequence[Mapping[str, Any]], output: Path) -> None:
    """Segment each case with `checkpoint_final.pth` into OUTPUT/SUBJECT.nii.gz, with the first image's sform and qform.

    By nnU-Net's defaults, windows overlap by half and are mirrored as in training.
    """
    predictor = nnUNetPredictor(device=work.device, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(checkpoint_folder(work).parent), (0,), FINAL)
    reader = predictor.plans_manager.image_reader_writer_class()
    written = work.folder / "unfinished.nii.gz"  # SimpleITK infers the format from the name
    for case in tqdm(cases, desc="predictions"):
        for file in case["image"]:
            read_scan(file)  # to its checksum, which nnU-Net's readers skip
        image, properties = reader.read_images(case["image"])
        labels = predictor.predict_single_npy_array(image, properties)
        reader.write_seg(labels, str(written), properties)
        forms = forms_of(open_volume(case["image"][0]))  # nnU-Net keeps only SimpleITK's header
        write_volume(prediction(output, case), read_scan(written)[1].astype(np.uint8), forms, is_label=True)
        written.unlink()
