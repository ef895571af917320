"""Layouts: the names that tensors get, the metadata, and what is refused."""

import pytest
import torch

from common import weights
from tests.support import refused

UKB = ["T1", "FLAIR"]
STEM = "swinViT.patch_embed.proj.weight"


def named(*names):
    return {name: torch.full((1,), float(number)) for number, name in enumerate(names)}


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "network", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "net.backbone.", "_orig_mod."])
def test_every_known_layout_is_read(file, wrapper, prefix):
    names = ["out.bias", STEM, "swinViT.layers1.0.blocks.0.norm1.bias"]
    tensors = named(*(prefix + name for name in names))
    torch.save({"epoch": 3, "optimizer": {}} | ({wrapper: tensors} if wrapper else tensors), file)
    read = weights.read(file)
    assert read.state == named(*names)
    assert read.layout == weights.Layout(wrapper, prefix, "swinViT.", [])
    assert read.metadata == {}


# What a checkpoint says of itself

STATED = {"modalities": UKB, "model_size": "micro", "patch_size": [64, 64, 64], "normalization": "brain"}


def saved(path, **metadata):
    torch.save({"network": {"a": torch.ones(1)}, "metadata": metadata}, path)
    return path


def test_the_settings_of_a_checkpoint_are_those_that_predictions_share(file, tmp_path, monkeypatch):
    saved(file, **STATED, architecture=None, learning_rate=1e-4, modality_aliases=None)
    monkeypatch.setattr(torch.Tensor, "isfinite", lambda self: pytest.fail("tensors are read"))
    assert weights.settings_of(file) == weights.settings_of([str(file)]) == STATED
    torch.save({"state_dict": {"a": torch.ones(1)}}, file)  # of another project
    assert weights.settings_of(file) == weights.settings_of(tmp_path / "later.pt") == weights.settings_of([]) == {}


def test_the_checkpoints_of_an_ensemble_agree(file, tmp_path):
    files = [saved(file, **STATED), saved(tmp_path / "b.pt", **STATED | {"model_size": "base"})]
    with refused(f"checkpoint {tmp_path / 'b.pt'}", text=f"trained with model_size=base, but {file} with micro"):
        weights.settings_of(files)
    foreign = saved(tmp_path / "b.pt", modalities=UKB)
    assert weights.settings_of([file, foreign]) == weights.settings_of([foreign, file]) == STATED


def test_a_training_takes_the_merging_of_its_weights(file):
    assert weights.merging_of(saved(file, merging="monai_1_4")) == "monai_1_4"
    assert weights.merging_of(saved(file)) == weights.merging_of(None) == weights.merging_of("null") == "monai_1_5"
