"""MLflow (`--tracking=mlflow`) and Weights & Biases (an overlay) follow each workflow."""

import json
import sys
from pathlib import Path

import pytest
import yaml

from tests.support import ROOT, TINY, execute

mlflow = pytest.importorskip("mlflow", reason="make tracking")
TORCHRUN = ["torch.distributed.run", "--standalone", "--master_port=0", "--nproc_per_node=2", "-m"]


@pytest.fixture
def run_bundle(cohorts, tmp_path):
    """Function: run a config of brats_finetune, with the output in `tmp_path/brats_finetune`."""

    def run(config, *options, launcher=()):
        folder = tmp_path / "brats_finetune"
        places = {"dataset_dir": cohorts / "brats", "datalist": cohorts / "brats.json", "output_dir": folder}
        if "train" in config:
            places["ckpt_dir"] = folder / "models"
        words = [f"--config_file={config}", *(f"--{name}={path}" for name, path in places.items()), *options]
        command = [sys.executable, "-m", *launcher, "monai.bundle", "run", *words]
        ended = execute(command, ROOT / "bundles/brats_finetune")
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return folder

    return run


@pytest.mark.slow
def test_a_training_an_evaluation_and_inference_are_three_runs(run_bundle, tmp_path):
    store = tmp_path / "mlruns.db"
    client = mlflow.MlflowClient(f"sqlite:///{store}")
    experiment = client.create_experiment("tumours", artifact_location=str(tmp_path / "kept"))
    tracked = ["--tracking=mlflow", f"--tracking_uri=sqlite:///{store}", "--experiment_name=tumours"]
    configs = "['configs/train.yaml','configs/multi_gpu_train.yaml']"
    folder = run_bundle(configs, *TINY, "--iterations=2", *tracked, launcher=TORCHRUN)
    checkpoint = [f"--checkpoint={folder / 'models/model.pt'}", "--num_workers=0"]
    record = json.loads((folder / "run.json").read_text())  # before the evaluation writes its own
    for name in ("evaluate", "inference"):
        run_bundle(f"configs/{name}.yaml", *tracked, *checkpoint)
    training, evaluation, inference = client.search_runs([experiment], order_by=["start_time"])
    assert [run.info.status for run in (training, evaluation, inference)] == ["FINISHED"] * 3
    assert training.info.run_name == f"brats_finetune {folder.resolve()}"
    assert (training.data.params["model_size"], training.data.params["global_batch_size"]) == ("micro", "4")
    for name, values in {"train_total": None, **record["validation"]["metrics"]}.items():
        history = client.get_metric_history(training.info.run_id, name)
        assert [point.step for point in history] == [1, 2], "iterations"
        assert values in (None, [point.value for point in history])
    assert {"dice", "ET_lesionwise_dice"} <= evaluation.data.metrics.keys()
    kept = [Path(client.download_artifacts(run.info.run_id, "")) for run in (training, evaluation, inference)]
    assert (kept[0] / "model.pt").read_bytes() == (folder / "models/model.pt").read_bytes()
    assert (kept[1] / "summary.json").is_file()
    assert (kept[2] / "volumes.csv").is_file()


@pytest.mark.slow
def test_weights_and_biases_by_the_overlay_of_the_page(run_bundle, tmp_path):
    (text,) = (
        block
        for block in (ROOT / "docs/how-to/track.md").read_text().split("```")
        if "WandBLogger, _disabled_" in block
    )
    overlay = yaml.safe_load(text.removeprefix("yaml"))
    overlay["+train::handlers"][0]["mode"] = "offline"
    (tmp_path / "wandb.yaml").write_text(yaml.safe_dump(overlay))
    config = f"['configs/train.yaml','{tmp_path / 'wandb.yaml'}']"
    for iterations in (1, 2):
        options = [*TINY, f"--iterations={iterations}", "--val_interval=1", "--save_interval=1", "--resume=auto"]
        folder = run_bundle(config, *options)
    first, second = sorted((folder / "wandb").glob("offline-run-*"))
    assert first.name.rpartition("-")[2] == second.name.rpartition("-")[2], "the resumed training is the same run"
    for run in (first, second):
        (file,) = run.glob("*.wandb")
        assert b"validation/dice" in file.read_bytes()
