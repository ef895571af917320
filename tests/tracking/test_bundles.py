"""`--tracking mlflow` in each workflow, with a database and with a server."""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pytest

from tests.bundles.workflows import STEP, config, workflow
from tests.support import BUNDLES, TINY


@pytest.mark.parametrize("bundle", BUNDLES)
def test_every_workflow_is_tracked_last(bundle):
    """MONAI adds its handlers to `handlers`; a bundle's own is behind them, and behind those that write files."""
    assert config(bundle)["train"]["trainer"]["train_handlers"].endswith(", @train::tracking]")
    for name in ("evaluate", "inference") if bundle.endswith("finetune") else ("inference",):
        assert config(bundle, name)["evaluator"]["val_handlers"] == "$@handlers + [@tracked]"


@pytest.mark.parametrize("bundle", ["ukb_ssl_pretrain", "brats_finetune"])
def test_a_training_is_tracked(bundle, cohorts, store, tmp_path):
    """Without an address, the run goes to a database in `output_dir`."""
    options = STEP | {"iterations": 2, "val_interval": 2}
    workflow(bundle, "train", cohorts, tmp_path, tracking="mlflow", **options).run()
    record = json.loads((tmp_path / "run.json").read_text())
    client = mlflow.MlflowClient(f"sqlite:///{store}")
    (run,) = client.search_runs([client.get_experiment_by_name("monai_experiment").experiment_id])
    assert (run.info.status, run.info.run_name) == ("FINISHED", f"{bundle} {record['started']}")
    assert (run.data.params["model_size"], run.data.params["iterations"]) == ("micro", "2")

    def logged(name):
        return [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]

    for section, kind in (("train", "loss"), ("validation", "metrics")):
        measured = record[section]
        assert measured[kind]
        for name, values in measured[kind].items():
            assert logged(f"{section}/{name}") == list(zip(measured["iteration"], values, strict=True))
    files = Path(client.download_artifacts(run.info.run_id, ""))
    assert (files / "model.pt").read_bytes() == (tmp_path / "models/model.pt").read_bytes()
    assert json.loads((files / "run.json").read_text())["finished"]


@pytest.fixture
def server(store, tmp_path):
    """The address of MLflow's server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", f"--port={port}", "--workers=1"]
    places = [f"--backend-store-uri=sqlite:///{store}", f"--artifacts-destination={tmp_path / 'kept'}"]
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen([*command, *places], stdout=log, stderr=log, cwd=tmp_path)
    begun = time.monotonic()
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except OSError:
            assert process.poll() is None, (tmp_path / "server.log").read_text()
            assert time.monotonic() - begun < 300
            time.sleep(0.1)
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait()


@pytest.mark.slow
def test_two_processes_an_evaluation_and_inference_are_three_runs_on_a_server(server, run_bundle, cohorts, tmp_path):
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
