"""What is wrong with MONAI's runner, which is why scripts/nnunet/ calls nnU-Net itself in places."""

from monai.apps.nnunet import nnUNetV2Runner


def test_monais_runner_still_trains_with_an_option_that_nnunet_does_not_know(tmp_path):
    """If this fails, MONAI has mended its runner, and scripts/nnunet/steps.py may train with it."""
    folders = {name: str(tmp_path / name) for name in ("nnunet_raw", "nnunet_preprocessed", "nnunet_results")}
    runner = nnUNetV2Runner({"dataset_name_or_id": 1, **folders})
    command, _ = runner.train_single_model_command("3d_fullres", 0, 0, {"device": "cpu"})
    assert "--device" in command
    assert "-device" not in command


def test_monais_runner_still_converts_no_datalist_of_several_modalities(cohort, tmp_path, caplog):
    """If this fails, MONAI's conversion takes our datalists; scripts/nnunet/conversion.py may be needless."""
    folders = {name: str(tmp_path / name) for name in ("nnunet_raw", "nnunet_preprocessed", "nnunet_results")}
    data = {"datalist": str(cohort.datalist), "dataroot": str(cohort.root), "modality": ["FLAIR", "T1ce", "T1", "T2"]}
    nnUNetV2Runner({"dataset_name_or_id": 1, **folders, **data}).convert_dataset()
    assert not list((tmp_path / "nnunet_raw").rglob("dataset.json"))
