"""`--tracking mlflow` in each workflow."""

import json
from pathlib import Path

import mlflow
import pytest

from tests.support import TINY


@pytest.mark.slow
def test_a_training_an_evaluation_and_inference_are_three_runs(run_bundle, store, tmp_path):
    client = mlflow.MlflowClient(f"sqlite:///{store}")
    experiment = client.create_experiment("tumours", artifact_location=str(tmp_path / "kept"))
    tracked = ["--tracking=mlflow", f"--tracking_uri=sqlite:///{store}", "--experiment_name=tumours"]
    folder = tmp_path / "brats_finetune"
    checkpoint = [f"--checkpoint={folder / 'models/model.pt'}", "--num_workers=0"]
    ended = run_bundle("brats_finetune", *TINY, "--iterations=2", *tracked, processes=2)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    record = json.loads((folder / "run.json").read_text())  # before the evaluation writes its own
    for name in ("evaluate", "inference"):
        ended = run_bundle("brats_finetune", *tracked, *checkpoint, config=f"configs/{name}.yaml")
        assert ended.returncode == 0, ended.stdout + ended.stderr
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
