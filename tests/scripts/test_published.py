"""`scripts.weights convert` recognises BrainSegFounder's published files by their layout."""

import pytest
import torch

from common import weights
from scripts.weights import convert
from tests.oracles.checkpoints import filled, public_ssl, ssl_network, swin_unetr, under

MICRO = {"depths": (1, 1, 1, 1), "feature_size": 12, "window": 4}
BRATS = ["FLAIR", "T1ce", "T1", "T2"]


def ssl(channels):
    return public_ssl(filled(ssl_network(channels, **MICRO)))


def atlas_ssl():
    shapes = ssl_network(2, **MICRO) | {"conv.20.weight": (12, 12, 3, 3, 3), "conv.20.bias": (12,)}
    return {"state_dict": filled(shapes | {"conv.23.weight": (2, 12, 1, 1, 1), "conv.23.bias": (2,)})}


def unetr(channels, outputs):
    return {"epoch": 280, "best_acc": 0.9, "state_dict": filled(swin_unetr(channels, outputs, **MICRO))}


def converted(content, folder, **options):
    torch.save(content, folder / "theirs.pt")
    convert(str(folder / "theirs.pt"), str(folder / "ours.pt"), **options)
    return weights.read(folder / "ours.pt").metadata


@pytest.mark.parametrize(
    ("content", "name", "modalities", "normalization"),
    [
        (ssl(1), "UKB-pretrain", ["T1"], "fixed_range"),
        (ssl(4), "BRATS-pretrain", BRATS, "fixed_range"),
        (atlas_ssl(), "ATLAS-pretrain", ["T1", "T1"], "none"),
        (unetr(4, 3), "BRATS-finetune", BRATS, "nonzero"),
        (under("module.base_model.", filled(swin_unetr(1, 1, **MICRO))), "ATLAS-finetune", ["T1"], "none"),
    ],
)
def test_each_file_states_its_settings(content, name, modalities, normalization, tmp_path):
    stated = converted(content, tmp_path)
    assert stated["source"].endswith(f"model_weights_{name}.pt")
    assert (stated["merging"], stated["licence"]) == ("monai_1_4", "uk-biobank-mta")
    assert (stated["modalities"], stated["normalization"]) == (modalities, normalization)
