"""The validation of a self-supervised training warns of collapsed embeddings."""

import torch

from tests.bundles.workflows import STEP, workflow


def test_embeddings_that_agree_are_warned_of_in_one_line(cohorts, tmp_path, capsys):
    started = workflow("ukb_ssl_pretrain", "train", cohorts, tmp_path, **STEP | {"learning_rate": 1e-9})
    head = started.parser.get_parsed_content("network").contrastive_head
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.ones_(head.bias)
    started.run()
    lines = [line for line in capsys.readouterr().out.splitlines() if "cosine" in line and line.startswith("warning")]
    assert lines == [
        "warning: contrastive_cosine 1.0000 at iteration 1: embeddings of different subjects are nearly identical; "
        "a learning_rate below 1e-09 may help"
    ]
