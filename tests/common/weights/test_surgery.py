"""Starting and restoring networks: responses that must stay, and what is refused."""

import pytest
import torch
from monai.networks.nets import SwinUNETR
from torch import nn

from common import weights
from common.networks import segmentation_network
from common.ssl.networks import SSLHead, settings
from tests.support import refused

UKB, BRATS = ["T1", "FLAIR"], ["FLAIR", "T1ce", "T1", "T2"]
STEM = "swinViT.patch_embed.proj.weight"
OUTPUTS = ("conv.20.weight", "conv.20.bias")  # of SSLHead, a slice for each modality


def ssl_head(channels, seed=0):
    torch.manual_seed(seed)
    return SSLHead(in_channels=channels, model_size="micro").eval()


def swin_unetr(channels, outputs=1, seed=0, **options):
    torch.manual_seed(seed)
    return SwinUNETR(channels, outputs, **settings("micro")._asdict() | options).eval()


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


def spread(image, places, channels):
    """An image with `channels` channels: the given ones at `places`, the others zero."""
    result = torch.zeros(len(image), channels, *image.shape[2:])
    result[:, places] = image
    return result


# Modalities by name


@pytest.mark.parametrize(
    ("known", "wanted", "aliases", "places"),
    [
        (UKB, BRATS, {}, [2, 0]),
        (UKB, ["FLAIR", "T1"], {}, [1, 0]),
        (UKB, UKB, {}, [0, 1]),
        (UKB, ["T1", "T2"], {"T2": "FLAIR"}, [0, 1]),  # the paper's code for two modalities of BraTS
        (UKB, ["PD", "T2", "T1"], {"T2": "FLAIR"}, [2, 1]),
    ],
)
def test_known_modalities_keep_their_filters_and_everything_else_stays(file, known, wanted, aliases, places):
    old, network = ssl_head(len(known)), ssl_head(len(wanted), seed=1)
    report = weights.initialise(network, saved(old, file, known), wanted, modality_aliases=aliases)
    trained, state = old.state_dict(), network.state_dict()
    assert torch.equal(state[STEM][:, places], trained[STEM])
    assert all(torch.equal(state[name][places], trained[name]) for name in OUTPUTS)
    assert equal(state, trained, [name for name in trained if name not in (STEM, *OUTPUTS)])
    changed = 0 if known == [aliases.get(modality, modality) for modality in wanted] else 3
    assert report.counts() == {"matched": len(state) - changed, "changed": changed, "missing": 0, "unexpected": 0}
    assert set(report.changed) == ({STEM, *OUTPUTS} if changed else set())
    lines = report.lines()
    assert lines[0] == f"weights: {file}: {len(state) - changed} matched, {changed} changed, 0 missing, 0 unexpected"
    expected = [f"  alias      {modality} takes {source}'s filters" for modality, source in aliases.items()]
    assert lines[1 : 1 + len(aliases)] == expected
    assert [line for line in lines if line.startswith("  changed ")] == [
        f"  changed    {name}: {', '.join(known)} -> {', '.join(wanted)}" for name in report.changed
    ]


@pytest.mark.parametrize(
    ("known", "wanted", "of_stem", "of_outputs"),
    [
        (UKB, ["FLAIR"], lambda stem: stem[:, [1]], lambda output: output[[1]]),
        (["T1"], ["T1", "T1"], lambda stem: stem[:, [0, 0]] / 2, lambda output: output[[0, 0]]),
        (["T1"] * 2, ["T1"], lambda stem: stem.sum(1, keepdim=True), lambda output: output.mean(0, keepdim=True)),
        (
            UKB,
            ["T1", "T2", "FLAIR"],  # T2 is an alias of FLAIR
            lambda stem: stem[:, [0, 1, 1]] / torch.tensor([1, 2, 2]).view(3, 1, 1, 1),
            lambda output: output[[0, 1, 1]],
        ),
    ],
)
def test_modalities_that_are_dropped_repeated_or_joined(file, known, wanted, of_stem, of_outputs):
    old, network = ssl_head(len(known)), ssl_head(len(wanted), seed=1)
    aliases = {"T2": "FLAIR"} if "T2" in wanted else None
    weights.initialise(network, saved(old, file, known), wanted, modality_aliases=aliases)
    trained, state = old.state_dict(), network.state_dict()
    torch.testing.assert_close(state[STEM], of_stem(trained[STEM]), rtol=1e-6, atol=0)
    for name in OUTPUTS:
        torch.testing.assert_close(state[name], of_outputs(trained[name]), rtol=1e-6, atol=0)


def test_a_network_responds_to_known_modalities_as_before(file):
    old, network = swin_unetr(2, outputs=3), swin_unetr(4, outputs=3, seed=1)
    report = weights.initialise(network, saved(old, file, UKB), BRATS)
    image = torch.randn(1, 2, 32, 64, 32)
    with torch.no_grad():
        torch.testing.assert_close(network(spread(image, [2, 0], 4)), old(image), rtol=1e-4, atol=1e-4)
    assert set(report.changed) == {STEM, "encoder1.layer.conv1.conv.weight", "encoder1.layer.conv3.conv.weight"}
    assert equal(network.state_dict(), old.state_dict(), old.state_dict().keys() - set(report.changed))
    assert not report.missing
    assert not report.unexpected


@pytest.mark.parametrize(
    ("modalities", "aliases", "problem"),
    [
        (["T1", "T2"], {"T2": "PD"}, "checkpoint FILE has no filters for PD, only for T1, FLAIR"),
        (UKB, {"FLAIR": "T1"}, "checkpoint FILE already has filters for FLAIR"),
    ],
)
def test_aliases_that_cannot_be_are_refused(file, modalities, aliases, problem):
    saved(ssl_head(2), file, UKB)
    network = ssl_head(len(modalities), seed=1)
    before = copy_of(network)
    with refused("modality_aliases", aliases, problem.replace("FILE", str(file))):
        weights.initialise(network, file, modalities, modality_aliases=aliases)
    assert equal(network.state_dict(), before)


# New modalities: expected deviations are sqrt(2 / fan) of He et al., ICCV 2015, with fans counted by hand


@pytest.mark.parametrize("new", [["T1ce"], ["T1ce", "T2", "PD", "DWI", "SWI"]])
def test_new_filters_have_the_deviation_of_kaiming(new):
    wanted = ["FLAIR", *new, "T1"]
    trained = torch.randn(600, 2, 3, 3, 3)
    initial = torch.full((600, len(wanted), 3, 3, 3), 7.0)
    result = weights.transfer(trained, initial, 1, UKB, wanted)
    fan = 600 * 27
    for channel in range(1, len(wanted) - 1):
        assert result[:, channel].std().item() == pytest.approx((2 / fan) ** 0.5, rel=0.03)
        assert result[:, channel].mean().item() == pytest.approx(0, abs=0.05 * (2 / fan) ** 0.5)
    assert torch.equal(result[:, [-1, 0]], trained)
    assert (initial == 7).all()


def test_new_outputs_and_biases_keep_their_initial_values():
    trained, initial = torch.randn(2, 48, 1, 1, 1), torch.full((600, 48, 1, 1, 1), 7.0)
    wanted = ["FLAIR", *(f"new{i}" for i in range(598)), "T1"]
    kept = weights.transfer(trained, initial, 0, UKB, wanted)
    assert (kept[1:-1] == 7).all()
    assert torch.equal(kept[[-1, 0]], trained)
    bias, initial = torch.tensor([1.0, 2.0]), torch.tensor([10.0, 20.0, 30.0])
    assert weights.transfer(bias, initial, 0, UKB, ["T2", "FLAIR", "T1"]).tolist() == [10, 2, 1]
    assert initial.tolist() == [10, 20, 30]


@pytest.mark.parametrize("shape", [[5, 3, 2, 2, 2], [6, 2, 2, 2, 2], [5, 2, 2, 2]])
def test_surgery_refuses_shapes_that_do_not_allow_it(shape):
    with refused("checkpoint f: stem", text="expected [5, 2, 2, 2, 2] for T1, FLAIR"):
        weights.transfer(torch.zeros(shape), torch.zeros(5, 4, 2, 2, 2), 1, UKB, BRATS, "f: stem")


# Shares of the response


def test_the_report_says_how_much_new_modalities_respond(file):
    network = ssl_head(4, seed=1)
    report = weights.initialise(network, saved(ssl_head(2), file, UKB), BRATS)
    stem = network.state_dict()[STEM]
    assert stem[:, [1, 3]].std().item() == pytest.approx((2 / (12 * 8)) ** 0.5, rel=0.3)  # of few numbers
    outputs = network.state_dict()["conv.20.weight"]
    assert report.shares.keys() == {STEM, "conv.20.weight"}
    for name, slices in ((STEM, stem.unbind(1)), ("conv.20.weight", outputs.unbind(0))):
        squares = [sum(value**2 for value in part.flatten().tolist()) for part in slices]
        assert report.shares[name] == pytest.approx([square / sum(squares) for square in squares], abs=1e-4)
    part = ", ".join(f"{name} {share:.0%}" for name, share in zip(BRATS, report.shares[STEM], strict=True))
    assert f"  response   {STEM}: {part}" in report.lines()
    assert report.content()["shares"] == report.shares
    assert weights.response_shares(torch.zeros(4, 2, 1, 1, 1), axis=0) == [0] * 4
    old, linear = (nn.Linear(count, 1, bias=False) for count in (2, 4))
    linear.modality_axes = {"weight": 1}
    assert weights.initialise(linear, saved(old, file, UKB), BRATS).shares.keys() == {"weight"}


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
    gaps = {"changed": [], "missing": report.missing, "unexpected": report.unexpected}
    assert report.content() == {"source": str(file), **report.counts(), "tensors": gaps, "shares": {}}


def test_a_tensor_of_another_shape_is_ignored(file):
    old, network = swin_unetr(1, outputs=3), swin_unetr(1, outputs=2, seed=1)
    before = copy_of(network)
    report = weights.initialise(network, saved(old, file, ["T1"]), ["T1"])
    output = ["out.conv.conv.weight", "out.conv.conv.bias"]
    assert (report.missing, report.unexpected, report.changed) == (output, output, [])
    assert len(report.matched) == len(before) - 2
    assert equal(network.state_dict(), before, output)


def test_the_report_says_that_there_are_no_weights():
    network = ssl_head(1)
    before = copy_of(network)
    report = weights.initialise(network, None, ["T1"])
    assert (report.source, report.missing) == (None, list(before))
    assert equal(network.state_dict(), before)
    assert report.lines() == [f"weights: from scratch: all {len(before)} tensors keep their initial values"]


@pytest.mark.parametrize(
    ("architecture", "first"), [("segresnet", "convInit.conv.weight"), ("transbts", "first.weight")]
)
def test_a_first_layer_of_a_baseline_keeps_the_filters_of_known_modalities(file, architecture, first):
    old, network = (segmentation_network(architecture, count, 1, "micro", (64, 64, 64)) for count in (2, 4))
    report = weights.initialise(network, saved(old, file, UKB), BRATS)
    assert report.changed == [first]
    assert report.missing == report.unexpected == []
    assert torch.equal(network.state_dict()[first][:, [2, 0]], old.state_dict()[first])


# The second version of SwinUNETR adds blocks of convolutions to the encoder


def test_the_second_version_takes_the_encoder_of_the_first_and_draws_its_own_blocks(file):
    network = swin_unetr(2, use_v2=True)
    blocks = {name for name in network.state_dict() if name.startswith("swinViT.layers") and name[15:17] == "c."}
    assert len(blocks) == 8
    report = weights.initialise(network, saved(ssl_head(2), file, UKB), UKB)
    encoder = {name for name in network.state_dict() if name.startswith("swinViT.")}
    assert set(report.matched) == encoder - blocks
    assert blocks <= set(report.missing)


def lacking(state, part):
    return {name: tensor for name, tensor in state.items() if part not in name}


def deeper(state):
    """The stems fit, but tensors are left over: nothing may be loaded silently."""
    first = {name: tensor for name, tensor in state.items() if "layers3.0.blocks.0." in name}
    return state | {name.replace("blocks.0.", "blocks.1."): tensor for name, tensor in first.items()}


@pytest.mark.parametrize(
    ("options", "state_of", "message"),
    [
        ({"feature_size": 24}, lambda: ssl_head(2).state_dict(), "tensors missing or of another shape"),
        ({}, lambda: deeper(ssl_head(2).state_dict()), "tensors unexpected or of another shape: 14, "),
        ({}, lambda: lacking(ssl_head(2).state_dict(), "swinViT."), "tensors missing"),
        ({"use_v2": True}, lambda: lacking(ssl_head(2).state_dict(), "layers3.0.blocks.0.attn"), "tensors missing"),
        # blocks of the second version are taken or left together
        (
            {"use_v2": True},
            lambda: lacking(swin_unetr(2, use_v2=True).state_dict(), "layers1c.0.layer.conv1"),
            "tensors missing or of another shape: 1, ",
        ),
        ({}, lambda: swin_unetr(2, use_v2=True).state_dict(), "tensors unexpected or of another shape: 8, "),
    ],
    ids=["wider", "deeper", "no encoder", "second version, too little", "some blocks", "all blocks"],
)
def test_a_different_encoder_is_refused(file, options, state_of, message):
    network = swin_unetr(2, seed=1, **options)
    state = {"out.conv.conv.bias": torch.zeros(1)} | state_of()
    before = copy_of(network)
    written(state, file, UKB, model_size="theirs")
    with refused(f"checkpoint {file}", text=message):
        weights.initialise(network, file, UKB)
    assert equal(network.state_dict(), before)


def test_a_file_without_any_matching_tensor_or_without_modalities_is_refused(file):
    saved(nn.Sequential(nn.Linear(2, 2)), file, ["T1"])
    with refused(f"checkpoint {file}", text="has no tensor in common with the network"):
        weights.initialise(nn.Linear(2, 2), file, ["T1"])
    with refused("pretrained", ["a"]):
        weights.initialise(nn.Linear(2, 2), ["a"], ["T1"])
    torch.save(ssl_head(1).state_dict(), file)
    with refused(f"checkpoint {file}", text="python -m scripts.weights convert FILE --modalities="):
        weights.initialise(ssl_head(1), file, ["T1"])


def test_a_network_of_a_different_or_unknown_merging_is_refused(file):
    """Tensors have the same names and shapes, so that only the metadata tell."""
    head, unet = ssl_head(2), swin_unetr(2)
    for metadata, message in (
        ({"merging": "monai_1_4"}, "trained with merging=monai_1_4, not monai_1_5"),
        ({"merging": None}, "does not state its MONAI version; "),
    ):
        with refused(f"checkpoint {file}", text=message):
            weights.initialise(head, saved(head, file, UKB, **metadata), UKB)
        with refused(f"checkpoint {file}", text=message):
            weights.restore(unet, saved(unet, file, UKB, **metadata), UKB)
    weights.initialise(SSLHead(2, "micro", merging="monai_1_4"), saved(head, file, UKB, merging="monai_1_4"), UKB)
    baseline = segmentation_network("segresnet", 2, 1, "micro", (64, 64, 64))
    weights.restore(baseline, saved(baseline, file, UKB, merging=None), UKB)


# Restoring


def test_restoring_takes_every_tensor(file, capsys):
    old, network = swin_unetr(2), swin_unetr(2, seed=1)
    saved(old, file, UKB, model_size="micro", normalization="nonzero")
    content = weights.restore(network, file, UKB, "nonzero")
    assert content.metadata["model_size"] == "micro"
    assert equal(network.state_dict(), old.state_dict())
    assert capsys.readouterr().out == ""
    weights.restore(network, saved(old, file, UKB), UKB, "brain")
    assert capsys.readouterr().out == f"checkpoint {file}: does not name its normalization; assuming brain\n"


def test_weights_without_labels_are_no_segmentation_network(file):
    saved(ssl_head(2), file, UKB, tasks=["rotation", "contrastive"])
    with refused(f"checkpoint {file}", text=f"to fine-tune it, use --pretrained={file}"):
        weights.restore(swin_unetr(2), file, UKB)


BIAS, UNFIT = "rotation_head.bias", "tensors that do not fit: 1, first"
NORMALIZED = "trained with normalization=nonzero, not"


@pytest.mark.parametrize(
    ("shapes", "metadata", "wanted", "message"),
    [
        ({}, {}, ["FLAIR", "T1"], "trained with T1, FLAIR; expected FLAIR, T1"),
        ({}, {"normalization": "nonzero"}, UKB, f"{NORMALIZED} brain"),
        ({BIAS: None}, {}, UKB, f"(which states no network): {UNFIT} {BIAS} is absent, expected [4]"),
        ({"b": (1,)}, {"model_size": "micro"}, UKB, f"(model_size micro): {UNFIT} b is [1], expected absent"),
        ({"b": (1,)}, {"network": "UNet"}, UKB, "weights of a UNet, but this config builds a "),
        ({BIAS: (5,)}, {"patch_size": [9] * 3}, UKB, f"(patch_size [9, 9, 9]): {UNFIT} {BIAS} is [5], expected [4]"),
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
