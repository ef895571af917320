"""Overlays for masked autoencoding: pretraining, embeddings, and fine-tuning from their weights."""

import json

import numpy as np
import pytest
import torch

from tests.bundles.workflows import STEP, workflow

PAPER = ["reconstruction", "rotation", "contrastive"]


def state_of(file):
    return torch.load(file, weights_only=True)["network"]


@pytest.mark.slow
@pytest.mark.parametrize(("overlay", "tasks"), [("masked", ["masked"]), ("four_tasks", [*PAPER, "masked"])])
def test_a_pretraining_by_its_overlay_starts_a_fine_tuning_from_encoder_and_decoder(overlay, tasks, cohorts, tmp_path):
    workflow("ukb_ssl_pretrain", "train", cohorts, tmp_path, (overlay,), **STEP).run()
    file = tmp_path / "models/model.pt"
    content = torch.load(file, weights_only=True)
    assert content["metadata"]["tasks"] == tasks
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["train"]["loss"].keys() == {"total", *tasks}
    assert (tmp_path / "pictures/inpainting.png").is_file()

    vectors = tmp_path / "vectors"
    workflow("ukb_ssl_pretrain", "inference", cohorts, vectors, checkpoint=str(file), split="validation").run()
    assert np.load(vectors / "embeddings.npz")["embedding"].shape[1] == 192

    options = STEP | {
        "pretrained": str(file),
        "modalities": ["FLAIR", "T1"],
    }  # at a learning rate of 0, as the warm-up begins
    tuning = workflow("brats_finetune", "train", cohorts, tmp_path / "tuned", **options)
    tuning.run()
    after, before = state_of(tmp_path / "tuned/models/model.pt"), content["network"]
    changed = {name for name, weight in after.items() if not torch.equal(weight, before.get(name, torch.zeros(0)))}
    last, first = {"out.conv.conv.weight", "out.conv.conv.bias"}, {"swinViT.patch_embed.proj.weight"}
    assert changed == last | first | {f"encoder1.layer.conv{number}.conv.weight" for number in (1, 3)}  # FLAIR, T1


def test_segresnet_learns_by_masked_alone_and_starts_a_fine_tuning(cohorts, tmp_path):
    options = STEP | {"architecture": "segresnet"}
    with pytest.raises(RuntimeError) as error:  # MONAI's, around ours, which a command prints
        workflow("ukb_ssl_pretrain", "train", cohorts, tmp_path, **options).parser.get_parsed_content("network_def")
    assert "expected swin_unetr, or segresnet with the overlay masked" in str(error.value.__cause__)
    workflow("ukb_ssl_pretrain", "train", cohorts, tmp_path, ("masked",), **options).run()
    options |= {"pretrained": str(tmp_path / "models/model.pt"), "modalities": ["FLAIR", "T1"]}
    tuning = workflow("brats_finetune", "train", cohorts, tmp_path / "tuned", **options)
    report = tuning.parser.get_parsed_content("weights_report")
    assert report.changed == ["convInit.conv.weight"]
    assert report.missing == ["conv_final.2.conv.weight", "conv_final.2.conv.bias"]
