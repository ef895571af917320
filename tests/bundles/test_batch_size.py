"""`--batch_size=auto` chooses the largest batch that fits, and trains as with this number."""

import json

import pytest
import torch

from common.training import fitting
from tests.bundles.workflows import STEP, workflow

AUTO = STEP | {"batch_size": "auto", "global_batch_size": 4}


@pytest.mark.slow
def test_a_training_is_that_of_the_number_and_resumes_with_it(cohorts, tmp_path, monkeypatch):
    def after(name, **options):
        workflow("brats_finetune", "train", cohorts, tmp_path / name, **AUTO | options).run()
        record = json.loads((tmp_path / name / "run.json").read_text())
        assert record["config"]["batch_size"] == 2
        return torch.load(tmp_path / name / "models/model.pt", weights_only=True)["network"]

    monkeypatch.setattr(fitting, "_fitting_on_cpu", lambda *_: [1, 2])
    automatic, given = after("auto"), after("given", batch_size=2)
    assert all(torch.equal(automatic[name], given[name]) for name in given)
    monkeypatch.setattr(fitting, "_fitting_on_cpu", lambda *_: [1, 2, 4])
    after("auto", resume=True, iterations=2)
