"""Starting and restoring networks: responses that must stay, and what is refused."""

import pytest
import torch
from monai.networks.nets import SwinUNETR
from torch import nn

from common import weights
from common.networks import segmentation_network
from common.ssl.networks import SIZES, SSLHead
from tests.support import refused

UKB, BRATS = ["T1", "FLAIR"], ["FLAIR", "T1ce", "T1", "T2"]
STEM = "swinViT.patch_embed.proj.weight"
OUTPUTS = ("conv.20.weight", "conv.20.bias")  # of SSLHead, a slice for each modality


def ssl_head(channels, seed=0):
    torch.manual_seed(seed)
    return SSLHead(in_channels=channels, model_size="micro").eval()


def swin_unetr(channels, outputs=1, seed=0, **options):
    torch.manual_seed(seed)
    return SwinUNETR(channels, outputs, **SIZES["micro"]._asdict() | options).eval()


def written(state, path, modalities, **metadata):
    metadata = {"modalities": modalities, "merging": "monai_1_5", **metadata}
    weights.write({"network": state, "metadata": metadata}, path)
    return path


def saved(network, path, modalities, **metadata):
    return written(network.state_dict(), path, modalities, **metadata)


def copy_of(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def equal(first, second, names=None):
    return all(torch.equal(first[name], second[name]) for name in (second if names is None else names))


# Modalities by name


@pytest.mark.parametrize(
    ("known", "wanted", "aliases", "of_stem", "of_outputs"),
    [
        (UKB, UKB, {}, lambda stem: stem, lambda output: output),
        (UKB, ["FLAIR", "T1"], {}, lambda stem: stem[:, [1, 0]], lambda output: output[[1, 0]]),
        (UKB, ["FLAIR"], {}, lambda stem: stem[:, [1]], lambda output: output[[1]]),
        # the paper's code for two modalities of BraTS
        (UKB, ["T1", "T2"], {"T2": "FLAIR"}, lambda stem: stem, lambda output: output),
        (["T1"], ["T1", "T1"], {}, lambda stem: stem[:, [0, 0]] / 2, lambda output: output[[0, 0]]),
        (["T1"] * 2, ["T1"], {}, lambda stem: stem.sum(1, keepdim=True), lambda output: output.mean(0, keepdim=True)),
        (
            UKB,
            ["T1", "T2", "FLAIR"],
            {"T2": "FLAIR"},
            lambda stem: stem[:, [0, 1, 1]] / torch.tensor([1, 2, 2]).view(3, 1, 1, 1),
            lambda output: output[[0, 1, 1]],
        ),
    ],
)
def test_filters_follow_the_names_of_the_modalities(file, known, wanted, aliases, of_stem, of_outputs):
    old, network = ssl_head(len(known)), ssl_head(len(wanted), seed=1)
    report = weights.initialise(network, saved(old, file, known), wanted, modality_aliases=aliases)
    trained, state = old.state_dict(), network.state_dict()
    torch.testing.assert_close(state[STEM], of_stem(trained[STEM]), rtol=1e-6, atol=0)
    for name in OUTPUTS:
        torch.testing.assert_close(state[name], of_outputs(trained[name]), rtol=1e-6, atol=0)
    assert equal(state, trained, [name for name in trained if name not in (STEM, *OUTPUTS)])
    changed = [] if known == [aliases.get(modality, modality) for modality in wanted] else [STEM, *OUTPUTS]
    assert set(report.changed) == set(changed)
    counts = {"matched": len(state) - len(changed), "changed": len(changed), "missing": 0, "unexpected": 0}
    assert report.counts() == counts
    line = f"  changed    {STEM}: {', '.join(known)} -> {', '.join(wanted)}"
    assert (line in report.lines()) == bool(changed)


@pytest.mark.parametrize(("modalities", "aliases"), [(["T1", "T2"], {"T2": "PD"}), (UKB, {"FLAIR": "T1"})])
def test_aliases_that_cannot_be_are_refused(file, modalities, aliases):
    saved(ssl_head(2), file, UKB)
    network = ssl_head(len(modalities), seed=1)
    before = copy_of(network)
    with refused("modality_aliases", aliases, "of T1, FLAIR"):
        weights.initialise(network, file, modalities, modality_aliases=aliases)
    assert equal(network.state_dict(), before)


# New modalities: expected deviations are sqrt(2 / fan) of He et al., ICCV 2015, with fans counted by hand


@pytest.mark.parametrize("new", [["T1ce"], ["T1ce", "T2", "PD", "DWI", "SWI"]])
def test_new_filters_have_the_deviation_of_kaiming(new):
    wanted = ["FLAIR", *new, "T1"]
    trained = torch.randn(600, 2, 3, 3, 3)
    result = weights.transfer(trained, torch.full((600, len(wanted), 3, 3, 3), 7.0), 1, UKB, wanted)
    fan = 600 * 27
    for channel in range(1, len(wanted) - 1):
        assert result[:, channel].std().item() == pytest.approx((2 / fan) ** 0.5, rel=0.03)
        assert result[:, channel].mean().item() == pytest.approx(0, abs=0.05 * (2 / fan) ** 0.5)
    assert torch.equal(result[:, [-1, 0]], trained)


@pytest.mark.parametrize(
    ("architecture", "first"), [("segresnet", "convInit.conv.weight"), ("transbts", "first.weight")]
)
def test_a_first_layer_of_a_baseline_keeps_the_filters_of_known_modalities(file, architecture, first):
    old, network = (segmentation_network(architecture, count, 1, "micro", (64, 64, 64)) for count in (2, 4))
    report = weights.initialise(network, saved(old, file, UKB), BRATS)
    assert report.changed == [first]
    assert report.missing == report.unexpected == []
    assert torch.equal(network.state_dict()[first][:, [2, 0]], old.state_dict()[first])


# The report


def test_fine_tuning_takes_the_encoder_and_says_what_it_lacks(file):
    old, network = ssl_head(1), swin_unetr(1, seed=1)
    before = copy_of(network)
    report = weights.initialise(network, saved(old, file, ["T1"]), ["T1"])
    encoder = [name for name in old.state_dict() if name.startswith("swinViT.")]
    assert report.matched == encoder
    assert report.missing == [name for name in before if not name.startswith("swinViT.")]
    assert report.unexpected == [name for name in old.state_dict() if not name.startswith("swinViT.")]
    assert equal(network.state_dict(), old.state_dict(), encoder)
    assert equal(network.state_dict(), before, report.missing)
    assert "  unexpected rotation_head (2), contrastive_head (2), conv (12)" in report.lines()


def test_a_tensor_of_another_shape_is_ignored(file):
    old, network = swin_unetr(1, outputs=3), swin_unetr(1, outputs=2, seed=1)
    before = copy_of(network)
    report = weights.initialise(network, saved(old, file, ["T1"]), ["T1"])
    output = ["out.conv.conv.weight", "out.conv.conv.bias"]
    assert (report.missing, report.unexpected, report.changed) == (output, output, [])
    assert equal(network.state_dict(), before, output)


def lacking(state, part):
    return {name: tensor for name, tensor in state.items() if part not in name}


@pytest.mark.parametrize(
    ("options", "state_of"),
    [
        ({"feature_size": 24}, lambda: ssl_head(2).state_dict()),
        ({}, lambda: lacking(ssl_head(2).state_dict(), "swinViT.")),
        # blocks of the second version are taken or left together
        ({"use_v2": True}, lambda: lacking(swin_unetr(2, use_v2=True).state_dict(), "layers1c.0.layer.conv1")),
        ({}, lambda: swin_unetr(2, use_v2=True).state_dict()),
    ],
    ids=["wider", "no encoder", "some blocks", "all blocks"],
)
def test_a_different_encoder_is_refused(file, options, state_of):
    network = swin_unetr(2, seed=1, **options)
    state = {"out.conv.conv.bias": torch.zeros(1)} | state_of()
    before = copy_of(network)
    written(state, file, UKB, model_size="theirs")
    with refused(f"checkpoint {file}", text="the encoder (model_size theirs) differs, first in swinViT."):
        weights.initialise(network, file, UKB)
    assert equal(network.state_dict(), before)


def test_a_file_without_any_matching_tensor_or_without_modalities_is_refused(file):
    saved(nn.Sequential(nn.Linear(2, 2)), file, ["T1"])
    with refused(f"checkpoint {file}", text="has no tensor in common with the network"):
        weights.initialise(nn.Linear(2, 2), file, ["T1"])
    torch.save(ssl_head(1).state_dict(), file)
    with refused(f"checkpoint {file}", text="python -m scripts.weights convert FILE --modalities="):
        weights.initialise(ssl_head(1), file, ["T1"])


def test_a_network_of_a_different_or_unknown_merging_is_refused(file):
    """Tensors have the same names and shapes, so that only the metadata tell."""
    head, unet = ssl_head(2), swin_unetr(2)
    for merging, message in (("monai_1_4", "merging=monai_1_4, not monai_1_5"), (None, "does not state its MONAI")):
        with refused(f"checkpoint {file}", text=message):
            weights.initialise(head, saved(head, file, UKB, merging=merging), UKB)
        with refused(f"checkpoint {file}", text=message):
            weights.restore(unet, saved(unet, file, UKB, merging=merging), UKB)
    weights.initialise(SSLHead(2, "micro", merging="monai_1_4"), saved(head, file, UKB, merging="monai_1_4"), UKB)
    baseline = segmentation_network("segresnet", 2, 1, "micro", (64, 64, 64))
    weights.restore(baseline, saved(baseline, file, UKB, merging=None), UKB)


# Restoring


def test_restoring_takes_every_tensor(file, capsys):
    old, network = swin_unetr(2), swin_unetr(2, seed=1)
    saved(old, file, UKB, model_size="micro", normalization="nonzero")
    assert weights.restore(network, file, UKB, "nonzero").metadata["model_size"] == "micro"
    assert equal(network.state_dict(), old.state_dict())
    assert capsys.readouterr().out == ""
    weights.restore(network, saved(old, file, UKB), UKB, "brain")
    assert capsys.readouterr().out == f"checkpoint {file}: does not name its normalization; assuming brain\n"


BIAS = "rotation_head.bias"


@pytest.mark.parametrize(
    ("shapes", "metadata", "wanted", "message"),
    [
        ({}, {}, ["FLAIR", "T1"], "trained with modalities ['T1', 'FLAIR']; expected ['FLAIR', 'T1']"),
        ({}, {"normalization": "nonzero"}, UKB, "trained with normalization nonzero; expected brain"),
        ({BIAS: None}, {}, UKB, f"1 tensors, first {BIAS}"),
        ({BIAS: (5,), "b": (1,)}, {"model_size": "base"}, UKB, "2 tensors, first b; trained with"),
    ],
)
def test_restoring_what_does_not_fit_is_refused(file, shapes, metadata, wanted, message):
    network = ssl_head(2, seed=1)
    before = copy_of(network)
    state = {name: tensor for name, tensor in before.items() if name not in shapes}
    made = {name: torch.zeros(shape) for name, shape in shapes.items() if shape is not None}
    written(state | made, file, UKB, **metadata)
    with refused(text=message):
        weights.restore(network, file, wanted, "brain")
    assert equal(network.state_dict(), before)
    saved(network, file, UKB, tasks=["rotation"])
    with refused(f"checkpoint {file}", text=f"to fine-tune it, use --pretrained={file}"):
        weights.restore(swin_unetr(2), file, UKB)
