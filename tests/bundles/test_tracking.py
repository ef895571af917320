"""`--tracking mlflow` in each workflow: with a stand-in for MLflow, and with MLflow's server where it is installed."""

import json
import socket
import subprocess
import sys
import time

import pytest
from monai.handlers import mlflow_handler

from tests.bundles.workflows import config, workflow
from tests.mlflow_stand_in import Client, stand_in
from tests.support import BUNDLES, TINY, bash_blocks

LOSSES = ["contrastive", "reconstruction", "rotation", "total"]


@pytest.mark.parametrize("bundle", BUNDLES)
def test_every_workflow_is_tracked_last(bundle):
    """MONAI adds its handlers to `handlers`; a bundle's own is behind them, and behind those that write files."""
    assert config(bundle)["train"]["trainer"]["train_handlers"].endswith(", @train::tracking]")
    for name in ("evaluate", "inference") if bundle.endswith("finetune") else ("inference",):
        assert config(bundle, name)["evaluator"]["val_handlers"] == "$@handlers + [@tracked]"


def test_a_training_is_tracked(cohorts, tmp_path, monkeypatch):
    client = Client(tmp_path / "mlruns")
    for name, module in stand_in(client).items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(mlflow_handler, "mlflow", sys.modules["mlflow"])
    options = {"patch_size": [64, 64, 64], "batch_size": 2, "num_workers": 0, "warmup_iterations": 1}
    options |= {"iterations": 2, "val_interval": 2, "ckpt_dir": str(tmp_path / "models"), "tracking": "mlflow"}
    workflow("atlas_stage2", "train", "train", cohorts, tmp_path / "eval", **options).run()
    (run,) = client.runs.values()
    record = json.loads((tmp_path / "eval/run.json").read_text())
    assert run.info.status == "FINISHED"
    assert run.info.run_name == f"atlas_stage2 {record['started']}"
    assert {name: run.data.params[name] for name in ("model_size", "iterations")} == {
        "model_size": "micro",
        "iterations": "2",
    }
    logged = {name: [(point.step, point.value) for point in points] for name, points in run.history.items()}
    for name in LOSSES:
        losses, held_out = record["train"]["loss"][name], record["validation"]["metrics"][name]
        assert logged[f"train/{name}"] == list(zip(record["train"]["iteration"], losses, strict=True))
        assert logged[f"validation/{name}"] == list(zip(record["validation"]["iteration"], held_out, strict=True))
    files = tmp_path / "mlruns" / run.info.run_id
    assert {"model.pt", "run.json"} <= {file.name for file in files.iterdir()}
    assert (files / "model.pt").read_bytes() == (tmp_path / "models/model.pt").read_bytes()
    assert json.loads((files / "run.json").read_text())["finished"]


@pytest.fixture
def server(tmp_path):
    """The address of MLflow's server."""
    pytest.importorskip("mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", f"--port={port}", "--workers=1"]
    places = [f"--backend-store-uri=sqlite:///{tmp_path / 'server.db'}", f"--artifacts-destination={tmp_path / 'kept'}"]
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen([*command, *places], stdout=log, stderr=log, cwd=tmp_path)
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except OSError:
            time.sleep(0.1)
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait()


@pytest.mark.slow
def test_two_processes_an_evaluation_and_inference_are_three_runs_on_a_server(server, run_bundle, cohorts, tmp_path):
    import mlflow

    (command,) = [block for block in bash_blocks("docs/tracking.md") if "--tracking_uri http" in block]
    assert "--tracking mlflow --tracking_uri http://localhost:5000 --experiment_name tumours" in command
    tracked = ["--tracking=mlflow", f"--tracking_uri={server}", "--experiment_name=tumours"]
    folder = tmp_path / "brats_finetune"
    checkpoint = [f"--checkpoint={folder / 'models' / 'model.pt'}", "--num_workers=0"]
    for result in (
        run_bundle("brats_finetune", *TINY, *tracked, processes=2),
        run_bundle("brats_finetune", *tracked, *checkpoint, config="configs/evaluate.yaml"),
        run_bundle("brats_finetune", *tracked, *checkpoint, config="configs/inference.yaml"),
    ):
        assert result.returncode == 0, result.stdout + result.stderr
    client = mlflow.MlflowClient(tracking_uri=server)
    runs = client.search_runs([client.get_experiment_by_name("tumours").experiment_id], order_by=["start_time"])
    assert [run.info.status for run in runs] == ["FINISHED"] * 3
    training, evaluation, inference = runs
    assert training.data.params["global_batch_size"] == "4"
    assert {"train/total", "validation/dice", "validation/ET"} <= training.data.metrics.keys()
    assert {"dice", "ET_lesionwise_dice"} <= evaluation.data.metrics.keys()
    assert inference.data.params["split"]
    kept = [{file.path for file in client.list_artifacts(run.info.run_id)} for run in runs]
    for files, expected in zip(kept, ("model.pt", "summary.json", "volumes.csv"), strict=True):
        assert expected in files
