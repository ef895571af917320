from types import SimpleNamespace

import pytest
from torch import nn

from common import weights
from common.training import fitting
from tests.support import refused


def options(**changed):
    defaults = {"batch_size": "auto", "global_batch_size": 24, "modalities": ["T1"], "patch_size": [4, 4, 4]}
    return SimpleNamespace(**defaults | {"device": "cpu", "resume": False} | changed)


def network():
    return nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv3d(2, 1, 1))


@pytest.mark.parametrize(
    ("changed", "processes", "sizes"),
    [
        ({}, 1, [1, 2, 3, 4, 6, 8, 12, 24]),
        ({"loss_weights": [1]}, 2, [2, 3, 4, 6, 12]),  # the contrastive task compares crops
        ({"crops_per_volume": 4}, 3, [4, 8]),
    ],
)
def test_candidates_keep_the_global_batch(changed, processes, sizes):
    assert fitting.candidates(options(**changed), processes) == sizes


@pytest.mark.parametrize("damage", ["no archive", "no settings"])
def test_a_resumed_run_keeps_the_batch_size_of_the_state_that_it_continues(damage, tmp_path, monkeypatch):
    config = SimpleNamespace(resolved_content={})
    monkeypatch.setattr(fitting, "resolver", lambda: config)
    weights.write({"metadata": {"batch_size": 6}}, tmp_path / "iteration-0000001.pt")
    if damage == "no archive":
        (tmp_path / "iteration-0000002.pt").write_bytes(b"x" * 100)
    else:
        weights.write({"network": {}}, tmp_path / "iteration-0000002.pt")
    changed = {"ckpt_dir": str(tmp_path)}
    assert fitting.fitting_batch_size(options(**changed, resume="auto"), None) == 6
    assert config.resolved_content == {"batch_size": 6}
    with refused(text="delete it to continue from iteration-0000001.pt"):
        fitting.fitting_batch_size(options(**changed, resume=True), None)
