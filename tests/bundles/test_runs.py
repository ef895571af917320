"""Trainings from stage to stage, and with other modalities."""

import json

import pytest
import torch

from tests.bundles.workflows import STEP, untrained, workflow
from tests.support import MODALITIES

BRATS = MODALITIES["brats_stage2"]
STEM = "swinViT.patch_embed.proj.weight"
pytestmark = pytest.mark.slow


def test_surgery_and_its_report(trained):
    """Stage 1 to stage 2: the stem is changed by name, nothing of the encoder is missing, and the run says so."""
    folder = trained("brats_stage2")
    report, log = json.loads((folder / "run.json").read_text())["weights"], (folder / "log.txt").read_text()
    assert report["changed"] == 3  # the stem, and the last convolution of the reconstruction with its bias
    assert report["missing"] == report["unexpected"] == 0
    assert f"{report['matched']} matched, 3 changed, 0 missing, 0 unexpected" in log
    assert len(report["shares"][STEM]) == len(BRATS)
    metadata = torch.load(folder / "models/model.pt", weights_only=True)["metadata"]
    assert metadata["modalities"] == BRATS


@pytest.mark.parametrize(
    ("modalities", "aliases", "printed", "kept"),
    [
        (["T1", "T1"], None, f"response   {STEM}: T1 50%, T1 50%", [(0, 0, 2), (1, 0, 2)]),
        (["T1", "T2"], {"T2": "FLAIR"}, "alias      T2 takes FLAIR's filters", [(0, 0, 1), (1, 1, 1)]),
    ],
)
def test_modality_restriction(cohorts, tmp_path, capsys, modalities, aliases, printed, kept):
    """The paper's Table 5: T1 in both channels; and its code's T1 and T2, the latter by FLAIR's filters."""
    pretrained = untrained("ukb_ssl_pretrain", tmp_path / "ukb.pt")
    options = STEP | {"modalities": modalities, "modality_aliases": aliases or "null", "pretrained": pretrained}
    workflow("brats_finetune", "train", cohorts, tmp_path, **options).run()
    assert f"  {printed}\n" in capsys.readouterr().out
    saved = torch.load(tmp_path / "models/model.pt", weights_only=True)
    given = torch.load(pretrained, weights_only=True)["network"][STEM]
    for channel, source, times in kept:  # the one step has a learning rate of 0
        assert torch.equal(saved["network"][STEM][:, channel], given[:, source] / times)
    config = json.loads((tmp_path / "run.json").read_text())["config"]
    assert config["modality_aliases"] == saved["metadata"]["modality_aliases"] == aliases
