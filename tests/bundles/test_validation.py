"""The validation of a self-supervised training: its collapse is told, and a resumed run repeats it."""

import json

import pytest
import torch

from tests.bundles.workflows import STEP, workflow

BUNDLE = "ukb_ssl_pretrain"


@pytest.mark.parametrize("is_collapsed", [True, False])
def test_embeddings_that_agree_are_warned_of_in_one_line(cohorts, tmp_path, capsys, is_collapsed):
    started = workflow(BUNDLE, "train", cohorts, tmp_path, **STEP | {"learning_rate": 1e-9})
    if is_collapsed:
        head = started.parser.get_parsed_content("network").contrastive_head
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.ones_(head.bias)
    started.run()
    lines = [line for line in capsys.readouterr().out.splitlines() if "cosine" in line and line.startswith("warning")]
    told = (
        "warning: contrastive_cosine 1.0000 at iteration 1: embeddings of different subjects are nearly identical; "
        "a learning_rate below 1e-09 may help"
    )
    assert lines == ([told] if is_collapsed else [])


def test_a_resumed_training_validates_on_the_same_crops(cohorts, tmp_path):
    options = STEP | {"iterations": 2, "save_interval": 1, "learning_rate": 1e-3, "warmup_iterations": 0}

    def trained(folder, **more):
        workflow(BUNDLE, "train", cohorts, tmp_path / folder, **options | more).run()
        record = json.loads((tmp_path / folder / "run.json").read_text())
        return record["validation"], torch.load(tmp_path / folder / "models/iteration-0000002.pt", weights_only=True)

    straight, state = trained("straight")
    for file in (tmp_path / "straight/models").iterdir():
        file.rename(tmp_path / file.name) if "1.pt" in file.name else None
    (tmp_path / "resumed/models").mkdir(parents=True)
    (tmp_path / "iteration-0000001.pt").rename(tmp_path / "resumed/models/iteration-0000001.pt")
    resumed, state_of_resumed = trained("resumed", resume=True, num_workers=1)
    assert resumed == straight
    assert all(torch.equal(state_of_resumed["network"][name], each) for name, each in state["network"].items())
