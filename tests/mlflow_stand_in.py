"""A stand-in for MLflow where it is not installed: the part of its client that MONAI and `common.training` use."""

import shutil
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any


class Metric:
    def __init__(self, key: str, value: float, timestamp: int, step: int) -> None:
        self.key, self.value, self.timestamp, self.step = key, value, timestamp, step


class Param:
    def __init__(self, key: str, value: str) -> None:
        self.key, self.value = key, value


class Client:
    """Keeps runs in memory and their files in a folder. It behaves as MLflow 3.17 does, which tests hold it against."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.runs, self.experiment = folder, {}, None
        self.is_lost = False

    def get_experiment_by_name(self, name: str) -> Any:
        return self.experiment

    def create_experiment(self, name: str, artifact_location: str | None = None) -> str:
        self.experiment = SimpleNamespace(experiment_id="1", name=name, lifecycle_stage="active")
        return "1"

    def get_experiment(self, experiment_id: str) -> Any:
        return self.experiment

    def search_runs(self, experiment_ids: Any) -> list[Any]:
        return list(self.runs.values())[::-1]

    def create_run(self, experiment_id: str, run_name: str) -> Any:
        info = SimpleNamespace(run_id=f"run{len(self.runs)}", run_name=run_name, status="RUNNING")
        run = SimpleNamespace(info=info, data=SimpleNamespace(params={}, metrics={}, tags={}), history={})
        self.runs[info.run_id] = run
        return run

    def get_run(self, run_id: str) -> Any:
        return self.runs[run_id]

    def log_batch(self, run_id: str, metrics: Any = (), params: Any = (), tags: Any = ()) -> None:
        if self.is_lost:
            raise ConnectionError("no server")
        assert len(params) <= 100
        run = self.runs[run_id]
        for param in params:
            assert run.data.params.setdefault(param.key, param.value) == param.value, "parameters never change"
        for metric in metrics:
            run.data.metrics[metric.key] = metric.value
            run.history.setdefault(metric.key, []).append(metric)

    def get_metric_history(self, run_id: str, key: str) -> list[Metric]:
        return self.runs[run_id].history.get(key, [])

    def set_tag(self, run_id: str, key: str, value: str) -> None:
        self.runs[run_id].data.tags[key] = value

    def update_run(self, run_id: str, status: str) -> None:
        self.runs[run_id].info.status = status

    def set_terminated(self, run_id: str, status: str) -> None:
        if self.is_lost:
            raise ConnectionError("no server")
        self.update_run(run_id, status)

    def log_artifact(self, run_id: str, path: str) -> None:
        (self.folder / run_id).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, self.folder / run_id)

    def list_artifacts(self, run_id: str) -> list[Any]:
        return [SimpleNamespace(path=file.name) for file in sorted((self.folder / run_id).glob("*"))]


def stand_in(client: Client) -> dict[str, ModuleType]:
    """The modules by name, as `sys.modules` has them."""
    mlflow, entities = ModuleType("mlflow"), ModuleType("mlflow.entities")
    mlflow.MlflowClient = lambda tracking_uri=None: client
    mlflow.entities = entities
    entities.Metric, entities.Param = Metric, Param
    entities.RunStatus = SimpleNamespace(FINISHED="FINISHED", to_string=str)
    entities.LifecycleStage = SimpleNamespace(ACTIVE="active")
    return {"mlflow": mlflow, "mlflow.entities": entities}
