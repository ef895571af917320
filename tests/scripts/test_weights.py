"""`scripts.weights`: recognised layouts, metadata of converted files, and networks that start from them."""

import hashlib

import pytest
import torch

from common import weights
from common.ssl.layers import EarlierMerging
from common.ssl.networks import SSLHead, SwinUNETR
from scripts.weights import convert, describe
from tests.oracles import checkpoints
from tests.oracles.paper import SSL_PARAMETERS

UKB, BRATS = ["T1", "FLAIR"], ["FLAIR", "T1ce", "T1", "T2"]
STEM = "swinViT.patch_embed.proj.weight"
MODALITY_TENSORS = (STEM, "conv.20.weight", "conv.20.bias")
MICRO = {"depths": (1, 1, 1, 1), "feature_size": 12, "window": 4}


def micro(channels=2):
    return checkpoints.filled(checkpoints.ssl_network(channels, **MICRO))


PUBLIC = checkpoints.public_ssl(micro())
ENCODER = checkpoints.filled(checkpoints.encoder(1, **MICRO))
OURS = {
    "modalities": UKB,
    "patch_size": [64, 64, 64],
    "preprocessing": "RAS, z-score",
    "label_convention": "brats2021",
    "versions": {"torch": "2.0"},
    "model_size": "base",
    "merging": "monai_1_5",
}


def swin_unetr(channels, outputs=3):
    torch.manual_seed(1)
    return SwinUNETR(channels, outputs, depths=(1, 1, 1, 1), feature_size=12, window_size=4, downsample=EarlierMerging)


@pytest.fixture
def file(tmp_path):
    """Return a public checkpoint of the self-supervised network, for T1 and FLAIR."""
    torch.save(PUBLIC, tmp_path / "theirs.pt")
    return tmp_path / "theirs.pt"


@pytest.fixture
def output(tmp_path):
    return str(tmp_path / "ours.pt")


def written(content, path):
    torch.save(content, path)
    return str(path)


def ours(path, **metadata):
    weights.write({"network": micro(), "metadata": OURS | metadata, "best": 0.5}, path)
    return str(path)


def equal(state, expected, names=None):
    return all(torch.equal(state[name], expected[name]) for name in (expected if names is None else names))


# Recognition


@pytest.mark.parametrize(("size", "channels"), [("tiny", 1), ("small", 2), ("base", 4)])
def test_ssl_networks_of_true_size_are_recognised(size, channels):
    tensors = checkpoints.hollow(checkpoints.ssl_network(channels, checkpoints.DEPTHS[size]))
    assert describe(tensors) == {
        "network": "SSLHead",
        "model_size": size,
        "depths": checkpoints.DEPTHS[size],
        "feature_size": 48,
        "window_size": 7,
        "num_heads": (3, 6, 12, 24),
        "input_channels": channels,
        "tensors": len(tensors),
        "parameters": SSL_PARAMETERS[size, channels],
    }


# Networks that start from converted files


def started(network, file, output, known, wanted):
    """Convert a file and start the network from it; return the network's tensors and the report."""
    convert(str(file), output, modalities=",".join(known), merging="monai_1_4")
    report = weights.initialise(network, output, wanted)
    return network.state_dict(), report


def test_model_swinvit_starts_what_monai_starts(file, output):
    written(checkpoints.monai_swinvit(ENCODER), file)
    theirs, network = swin_unetr(1), swin_unetr(1)
    theirs.load_from(torch.load(file))
    state, report = started(network, file, output, ["CT"], ["CT"])
    assert len(report.matched) == len(ENCODER)
    assert report.unexpected == []
    assert equal(state, theirs.state_dict())
    assert torch.equal(state[STEM], ENCODER["patch_embed.proj.weight"])


# Heads of the public code that SSLHead lacks


@pytest.mark.parametrize(
    ("kind", "missing", "unexpected"),
    [
        ("deconv", 11, 9),  # the bias of conv.0 alone agrees in name and shape; that of conv.4 is unknown
        ("two_layers", 0, 4),
    ],
)
def test_a_file_with_another_head_starts_a_network(kind, missing, unexpected, file, output):
    tensors = checkpoints.filled(checkpoints.other_ssl_network(kind, 2, **MICRO))
    written(checkpoints.public_ssl(tensors), file)
    network = SSLHead(4, "micro", merging="monai_1_4")
    initial = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state, report = started(network, file, output, UKB, BRATS)
    assert (len(report.missing), len(report.unexpected)) == (missing, unexpected)
    assert not [name for name in (*report.missing, *report.unexpected) if name.startswith("swinViT.")]
    assert equal(state, initial, report.missing)
    assert equal(state, tensors, [name for name in report.matched if name not in MODALITY_TENSORS])
    assert torch.equal(state[STEM][:, [2, 0]], tensors[STEM])


# Metadata of converted files


def test_a_foreign_file_says_what_it_was_told_and_no_more(file, output, capsys):
    written(checkpoints.monai_swinvit(ENCODER), file)
    convert(str(file), output, modalities="CT")
    assert capsys.readouterr().out.endswith("lack them: module.norm.weight, module.norm.bias\n")
    content = torch.load(output)
    assert content["network"].keys() == {f"swinViT.{name}" for name in ENCODER}
    metadata = content["metadata"]
    assert [metadata[name] for name in ("patch_size", "versions", "merging")] == [None, None, "monai_1_4"]
    assert metadata["modalities"] == ["CT"]
    assert (metadata["network"], metadata["model_size"]) == ("SwinUNETR's encoder", "micro")
    (conversion,) = metadata["conversions"]
    assert conversion["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_file_of_ours_keeps_what_it_says_and_every_conversion_is_remembered(file, output, tmp_path):
    convert(ours(file, patch_size=(64, 64, 64)), output, patch_size=(64, 64, 64))  # equals the file's
    metadata = weights.read(output).metadata
    assert {name: metadata[name] for name in OURS} == OURS | {"model_size": "micro"}  # by the tensors
    convert(output, str(tmp_path / "again.pt"))
    first, second = weights.read(tmp_path / "again.pt").metadata["conversions"]
    assert (first["file"], second["file"]) == ("theirs.pt", "ours.pt")


# BrainSegFounder's published files, recognised by their layout


def atlas_ssl():
    shapes = checkpoints.ssl_network(2, **MICRO) | {"conv.20.weight": (12, 12, 3, 3, 3), "conv.20.bias": (12,)}
    return {"state_dict": checkpoints.filled(shapes | {"conv.23.weight": (2, 12, 1, 1, 1), "conv.23.bias": (2,)})}


def unetr(channels, outputs):
    return checkpoints.filled(checkpoints.swin_unetr(channels, outputs, **MICRO))


@pytest.mark.parametrize(
    ("content", "name", "modalities", "normalization"),
    [
        (checkpoints.public_ssl(micro(1)), "UKB-pretrain", ["T1"], "fixed_range"),
        (checkpoints.public_ssl(micro(4)), "BRATS-pretrain", BRATS, "fixed_range"),
        (atlas_ssl(), "ATLAS-pretrain", ["T1", "T1"], "none"),
        ({"epoch": 280, "state_dict": unetr(4, 3)}, "BRATS-finetune", BRATS, "nonzero"),
        (checkpoints.under("module.base_model.", unetr(1, 1)), "ATLAS-finetune", ["T1"], "none"),
    ],
)
def test_each_published_file_states_its_settings(content, name, modalities, normalization, file, output):
    convert(written(content, file), output)
    stated = weights.read(output).metadata
    assert stated["source"].endswith(f"model_weights_{name}.pt")
    assert (stated["merging"], stated["licence"]) == ("monai_1_4", "uk-biobank-mta")
    assert (stated["modalities"], stated["normalization"]) == (modalities, normalization)
