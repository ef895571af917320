"""`scripts.weights`: what files of other people are told apart by, and what a converted one says and starts."""

import argparse
import ast
import hashlib
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.networks.nets import SwinUNETR
from monai.networks.nets.swin_unetr import filter_swinunetr
from monai.networks.utils import copy_model_state

from common import weights
from common.errors import InputError
from common.ssl.networks import SSLHead, settings
from scripts.weights.__main__ import convert, inspect
from scripts.weights.description import describe
from tests.oracles import checkpoints
from tests.oracles.paper import SSL_PARAMETERS, SWIN_UNETR_PARAMETERS

UKB, BRATS = ["T1", "FLAIR"], ["FLAIR", "T1ce", "T1", "T2"]
STEM = "swinViT.patch_embed.proj.weight"
MICRO = {"depths": (1, 1, 1, 1), "feature_size": 12, "window": 4}


def written(content, path):
    torch.save(content, path)
    return str(path)


def micro(channels=2, seed=0):
    return checkpoints.filled(checkpoints.ssl_network(channels, **MICRO), seed)


def swin_unetr(channels, outputs=3, seed=1, depths=(1, 1, 1, 1), window=4):
    torch.manual_seed(seed)
    return SwinUNETR(channels, outputs, depths=depths, feature_size=12, window_size=window)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "theirs.pt"


@pytest.fixture
def output(tmp_path):
    return str(tmp_path / "ours.pt")


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


def told(printed):
    return {line[:18].strip(): line[19:] for line in printed.splitlines()}


# What a file is


@pytest.mark.parametrize(("size", "channels"), SSL_PARAMETERS)
def test_ssl_networks_of_true_size_are_recognised(size, channels):
    found = describe(checkpoints.hollow(checkpoints.ssl_network(channels, checkpoints.DEPTHS[size])))
    assert found["parameters"] == SSL_PARAMETERS[size, channels]
    assert (found["network"], found["model_size"], found["input_channels"]) == ("SSLHead", size, channels)
    assert (found["depths"], found["num_heads"]) == (checkpoints.DEPTHS[size], (3, 6, 12, 24))
    assert (found["feature_size"], found["window_size"]) == (48, 7)
    assert "output_channels" not in found


@pytest.mark.parametrize(("size", "channels", "outputs"), SWIN_UNETR_PARAMETERS)
def test_segmentation_networks_of_true_size_are_recognised(size, channels, outputs):
    found = describe(checkpoints.hollow(checkpoints.swin_unetr(channels, outputs, checkpoints.DEPTHS[size])))
    assert found["parameters"] == SWIN_UNETR_PARAMETERS[size, channels, outputs]
    assert (found["network"], found["model_size"]) == ("SwinUNETR", size)
    assert (found["input_channels"], found["output_channels"]) == (channels, outputs)


@pytest.mark.parametrize("network", [SSLHead(3, "micro"), SwinUNETR(3, 2, feature_size=12)])
def test_the_fixtures_are_what_networks_hold(network):
    sizes = MICRO if isinstance(network, SSLHead) else {"depths": (2, 2, 2, 2), "feature_size": 12}
    fixture = checkpoints.ssl_network if isinstance(network, SSLHead) else checkpoints.swin_unetr
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    assert fixture(3, **sizes) == expected if isinstance(network, SSLHead) else fixture(3, 2, **sizes) == expected


@pytest.mark.parametrize(
    ("depths", "feature_size", "window", "heads"),
    [((1, 2, 3, 4), 12, 4, (3, 6, 12, 24)), ((2, 1, 1, 1), 24, 5, (2, 4, 8, 16)), ((2, 2, 2, 2), 48, 7, (2, 4, 8, 16))],
)
def test_networks_of_no_size_of_ours_are_described(depths, feature_size, window, heads):
    shapes = checkpoints.ssl_network(1, depths, feature_size, window=window, heads=heads)
    found = describe(checkpoints.hollow(shapes))
    assert found["model_size"] == f"depths {depths}, feature size {feature_size}"
    assert (found["depths"], found["feature_size"]) == (depths, feature_size)
    assert (found["window_size"], found["num_heads"]) == (window, heads)


def without(*beginnings):
    shapes = checkpoints.ssl_network(1, **MICRO) | checkpoints.swin_unetr(1, 2, **MICRO)
    return checkpoints.hollow({name: shape for name, shape in shapes.items() if not name.startswith(beginnings)})


@pytest.mark.parametrize(
    ("absent", "network"),
    [
        (("out", "decoder", "encoder"), "SSLHead"),
        (("rotation",), "SwinUNETR"),
        (("rotation", "out"), "SwinUNETR without its output layer"),
        (("rotation", "out", "decoder", "encoder"), "SwinUNETR's encoder"),
        (("contrastive", "out", "decoder", "encoder"), "SwinUNETR's encoder"),
        (("conv.", "out", "decoder", "encoder"), "SwinUNETR's encoder"),
    ],
)
def test_networks_are_told_apart_by_their_modules(absent, network):
    assert describe(without(*absent))["network"] == network


def test_another_network_is_refused_with_its_first_tensors(file, capsys):
    written({"state_dict": {f"module.{i}.weight": torch.ones(1) for i in range(9)}}, file)
    with pytest.raises(InputError, match="an unknown network; expected SwinUNETR's 3D encoder") as error:
        inspect(str(file))
    assert str(file) in one_line(error)
    assert str(error.value).endswith("its 9 tensors begin with 0.weight, 1.weight, 2.weight")
    assert capsys.readouterr().out == ""


def test_a_network_for_slices_is_refused():
    flat = SwinUNETR(1, 2, feature_size=12, spatial_dims=2).state_dict()
    with pytest.raises(InputError, match="unknown network; expected SwinUNETR's 3D encoder"):
        describe(flat)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("swinViT.layers3.0.blocks.0.attn.qkv.bias", None),
        ("swinViT.layers3.0.blocks.0.attn.qkv.bias", (7,)),
        ("swinViT.layers3.0.blocks.2.attn.qkv.bias", (144,)),
        ("swinViT.layers1c.0.conv1.weight", (12, 12, 3, 3, 3)),
    ],
)
def test_an_encoder_that_monai_does_not_build_is_refused(name, shape):
    shapes = checkpoints.ssl_network(1, **MICRO) | {name: shape}
    state = checkpoints.hollow({name: shape for name, shape in shapes.items() if shape is not None})
    with pytest.raises(InputError, match=rf"F: an unknown variant .*; 1 tensors are missing, .* first {name}"):
        describe(state, "F")


def test_monais_second_version_of_the_network_is_refused():
    second = SwinUNETR(1, 2, feature_size=12, use_v2=True).state_dict()
    with pytest.raises(InputError, match="expected that of MONAI's SwinUNETR, version 1"):
        describe(second)


def test_an_encoder_without_a_level_is_refused():
    shapes = checkpoints.ssl_network(1, **MICRO)
    state = checkpoints.hollow({name: shape for name, shape in shapes.items() if "layers2" not in name})
    with pytest.raises(InputError, match="F: SwinUNETR's encoder lacks levels; expected blocks in layers1 to layers4"):
        describe(state, "F")


@pytest.mark.parametrize("shape", [(0, 1, 2, 2, 2), (12, 0, 2, 2, 2)])
def test_a_first_layer_without_filters_is_refused(shape):
    state = checkpoints.hollow(checkpoints.ssl_network(1, **MICRO) | {STEM: shape})
    with pytest.raises(InputError, match="F: an unknown network; expected SwinUNETR's 3D encoder") as error:
        describe(state, "F")
    one_line(error)


@pytest.mark.parametrize("shape", [(), (343,), (0, 3), (343, 0), (7, 7, 3)])
def test_tables_of_another_shape_are_refused(shape):
    table = "swinViT.layers1.0.blocks.0.attn.relative_position_bias_table"
    state = checkpoints.hollow(checkpoints.ssl_network(1, **MICRO) | {table: shape})
    with pytest.raises(InputError, match=r"F: an unknown variant .* 1 have another shape, first ") as error:
        describe(state, "F")
    assert one_line(error).endswith(str(list(shape)))


@pytest.mark.parametrize("heads", [(24, 24, 24, 24), (5, 6, 12, 24)])
def test_heads_that_do_not_divide_the_width_are_refused(heads):
    state = checkpoints.hollow(checkpoints.ssl_network(1, heads=heads, **MICRO))
    with pytest.raises(InputError, match=f"12 filters, .* into {', '.join(map(str, heads))} heads"):
        describe(state, "F")


@pytest.mark.parametrize(
    ("network", "name", "shape"),
    [
        ("SSLHead", "rotation_head.weight", (10, 192)),
        ("SSLHead", "contrastive_head.bias", None),
        ("SSLHead", "conv.4.weight", (48, 96, 1, 1, 1)),
        ("SSLHead", "conv.20.bias", (5,)),
        ("SSLHead", "conv.24.bias", (1,)),
        ("SwinUNETR", "decoder1.transp_conv.conv.weight", (12, 12, 3, 3, 3)),
        ("SwinUNETR", "encoder10.layer.conv2.conv.weight", None),
        ("SwinUNETR", "out.conv.conv.weight", (4, 12, 1, 1, 1)),
        ("SwinUNETR", "encoder1.layer.norm1.weight", (12,)),
    ],
)
def test_heads_and_decoders_of_another_network_are_refused(network, name, shape):
    ssl = network == "SSLHead"
    shapes = checkpoints.ssl_network(1, **MICRO) if ssl else checkpoints.swin_unetr(1, 3, **MICRO)
    shapes |= {name: shape}
    state = checkpoints.hollow({name: shape for name, shape in shapes.items() if shape is not None})
    with pytest.raises(
        InputError, match=f"F: an unknown variant of {network}; .* 1 tensors are .* first {name}"
    ) as error:
        describe(state, "F")
    one_line(error)


@pytest.mark.parametrize("shape", [(), (0,)])
def test_an_output_layer_without_channels_is_refused(shape):
    state = checkpoints.hollow(checkpoints.swin_unetr(1, 3, **MICRO) | {"out.conv.conv.bias": shape})
    with pytest.raises(InputError, match="F: an unknown variant of SwinUNETR; "):
        describe(state, "F")


def test_a_decoder_of_a_width_that_monai_does_not_build_is_refused():
    shapes = checkpoints.swin_unetr(1, 3, (1, 1, 1, 1), feature_size=8, window=4, heads=(2, 4, 8, 16))
    with pytest.raises(InputError, match="its feature size is 8, expected a multiple of 12"):
        describe(checkpoints.hollow(shapes), "F")


# What inspect prints


def test_inspect_prints_how_a_public_file_holds_what(file, capsys):
    inspect(written(checkpoints.public_ssl(micro()), file))
    tensors = checkpoints.ssl_network(2, **MICRO)
    numbers = sum(math.prod(shape) for name, shape in tensors.items() if not name.endswith("_index"))
    assert told(capsys.readouterr().out) == {
        "wrapper": "state_dict",
        "beside it": "global_step, epoch, optimizer",
        "prefix": "module.",
        "encoder": "swinViT.",
        "left out": "nothing",
        "network": "SSLHead",
        "model_size": "micro",
        "depths": "1, 1, 1, 1",
        "feature_size": "12",
        "window_size": "4",
        "num_heads": "3, 6, 12, 24",
        "input_channels": "2",
        "tensors": str(len(tensors)),
        "parameters": str(numbers),
        "modules": "swinViT (70), rotation_head (2), contrastive_head (2), conv (12)",
        "modalities": "unknown",
    }


ENCODER = checkpoints.filled(checkpoints.encoder(1, **MICRO))
DECODER = checkpoints.filled(checkpoints.decoder(1, feature_size=12), seed=1)
SEGMENTER = checkpoints.filled(checkpoints.swin_unetr(4, 3, **MICRO))
LAYOUTS = {
    "swinvit": checkpoints.monai_swinvit(ENCODER),
    "ssl_pretrained": checkpoints.monai_ssl_pretrained(ENCODER, DECODER),
    "former": checkpoints.former_ssl(micro(1)),
    "finetuned": checkpoints.public_finetuned(SEGMENTER),
    "nested": checkpoints.under("module.backbone.", SEGMENTER),
    "compiled": {"model_state_dict": checkpoints.under("_orig_mod.", micro(1)), "optimizer_state_dict": {}},
}


@pytest.mark.parametrize(
    ("layout", "wrapper", "beside", "prefix", "encoder", "left_out", "network"),
    [
        ("swinvit", "state_dict", "nothing", "module.", "no name of its own", 2, "SwinUNETR's encoder"),
        ("ssl_pretrained", "model", "epoch, optimizer", "none", "encoder.", 5, "SwinUNETR without its output layer"),
        ("former", "state_dict", "nothing", "none", "swin_vit.", 0, "SSLHead"),
        ("finetuned", "state_dict", "epoch, best_acc", "none", "swinViT.", 0, "SwinUNETR"),
        ("nested", "none", "nothing", "module.backbone.", "swinViT.", 0, "SwinUNETR"),
        ("compiled", "model_state_dict", "optimizer_state_dict", "_orig_mod.", "swinViT.", 0, "SSLHead"),
    ],
)
def test_inspect_prints_every_layout(layout, wrapper, beside, prefix, encoder, left_out, network, file, capsys):
    inspect(written(LAYOUTS[layout], file))
    lines = told(capsys.readouterr().out)
    assert [lines[name] for name in ("wrapper", "beside it", "prefix", "encoder")] == [wrapper, beside, prefix, encoder]
    assert lines["left out"].count(".") == 0 if not left_out else len(lines["left out"].split(", ")) == left_out
    assert (lines["network"], lines["model_size"]) == (network, "micro")


def test_the_documentation_shows_what_inspect_prints(file, capsys):
    shown = Path("docs/weights.md").read_text().split("```text\n")[1].split("```")[0]
    tensors = checkpoints.hollow(checkpoints.ssl_network(2, checkpoints.DEPTHS["small"]))
    inspect(written(checkpoints.public_ssl(tensors), file))
    assert capsys.readouterr().out == shown


def test_inspect_prints_what_a_file_of_ours_says(file, capsys):
    metadata = {"modalities": UKB, "network": "SSLHead", "model_size": "base", "versions": {"torch": "2.0"}}
    weights.write({"network": micro(), "metadata": metadata}, file)
    inspect(str(file))
    lines = told(capsys.readouterr().out)
    assert lines["modalities"] == "T1, FLAIR"
    assert lines["versions"] == "torch 2.0"
    assert lines["network"] == "SSLHead"
    assert lines["model_size"] == "micro, although the file states base"
    assert lines["wrapper"] == "network"
    assert lines["beside it"] == "nothing"


def test_inspect_prints_loss_and_transforms_as_a_config_has_them(file, capsys):
    pad = {"_target_": "SpatialPadd", "keys": ["image"], "spatial_size": [64, 64, 64]}
    components = {"loss": {"_target_": "DiceLoss", "sigmoid": True}, "random_transforms": [pad, {"a": torch.ones(1)}]}
    weights.write({"network": micro(), "metadata": {"modalities": UKB, "components": components}}, file)
    inspect(str(file))
    shown = capsys.readouterr().out
    assert "\nloss: {_target_: DiceLoss, sigmoid: true}\n" in shown
    assert "\n- _target_: SpatialPadd\n  keys: [image]\n  spatial_size: [64, 64, 64]\n" in shown


# Converted files start our networks


def started(network, file, output, known, wanted, **options):
    """The network's tensors after it was given a file that was converted."""
    convert(str(file), output, ",".join(known), **options)
    report = weights.initialise(network, output, wanted)
    return network.state_dict(), report


@pytest.mark.parametrize("size", ["tiny", "small", "base"])
@pytest.mark.parametrize(("known", "wanted"), [(UKB, BRATS), (UKB, ["T1"]), (["T1"], ["T1", "T1"])])
def test_a_public_file_starts_stage_2(size, known, wanted, file, output):
    shapes = checkpoints.ssl_network(len(known), checkpoints.DEPTHS[size])
    number = torch.arange(1.0, len(known) + 1)  # channel i holds i + 1 throughout
    tensors = checkpoints.hollow(shapes) | {
        STEM: number.view(1, -1, 1, 1, 1).expand(shapes[STEM]),
        "conv.20.weight": number.view(-1, 1, 1, 1, 1).expand(shapes["conv.20.weight"]),
        "conv.20.bias": number,
    }
    network = SSLHead(len(wanted), size)
    initial = {name: network.state_dict()[name].clone() for name in (STEM, "conv.20.bias")}
    state, report = started(network, written(checkpoints.public_ssl(tensors), file), output, known, wanted)
    assert report.counts() == {"matched": len(shapes) - 3, "changed": 3, "missing": 0, "unexpected": 0}
    for channel, modality in enumerate(wanted):
        filters, bias = state[STEM][:, channel], state["conv.20.bias"][channel]
        if modality in known:
            assert (filters == (known.index(modality) + 1) / wanted.count(modality)).all()
            assert bias == known.index(modality) + 1
        else:
            assert filters.std().item() == pytest.approx((2 / (48 * 8)) ** 0.5, rel=0.15)  # Kaiming, fan out
            assert not torch.equal(filters, initial[STEM][:, channel])
            assert bias == initial["conv.20.bias"][channel]
    assert not state["rotation_head.weight"].any()


def narrow(channels, size):
    """The self-supervised network of a size, a quarter as wide."""
    return checkpoints.filled(checkpoints.ssl_network(channels, checkpoints.DEPTHS[size], feature_size=12))


def of_encoder(names):
    return [name for name in names if name.startswith("swinViT.")]


@pytest.mark.parametrize("size", ["tiny", "small", "base"])
@pytest.mark.parametrize("wanted", [BRATS, ["T1"], ["T1", "T1"], UKB])
def test_stage_1_starts_fine_tuning_at_once(size, wanted, file, output):
    tensors = narrow(2, size)
    network = swin_unetr(len(wanted), depths=checkpoints.DEPTHS[size], window=7)
    initial = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state, report = started(network, written(checkpoints.public_ssl(tensors), file), output, UKB, wanted)
    assert report.matched == [name for name in of_encoder(tensors) if name != STEM or wanted == UKB]
    assert report.changed == ([] if wanted == UKB else [f"{STEM}: T1, FLAIR -> {', '.join(wanted)}"])
    assert report.missing == [name for name in initial if not name.startswith("swinViT.")]
    assert report.unexpected == [name for name in tensors if not name.startswith("swinViT.")]
    for name, tensor in state.items():
        if name != STEM:
            assert torch.equal(tensor, tensors[name] if name.startswith("swinViT.") else initial[name])
    for channel, modality in enumerate(wanted):
        if modality in UKB:
            expected = tensors[STEM][:, UKB.index(modality)] / wanted.count(modality)
            assert torch.equal(state[STEM][:, channel], expected)


@pytest.mark.parametrize("size", ["tiny", "small", "base"])
@pytest.mark.parametrize("modalities", [BRATS, ["T1"]])
def test_stage_2_starts_fine_tuning(size, modalities, file, output):
    tensors = narrow(len(modalities), size)
    network = swin_unetr(len(modalities), depths=checkpoints.DEPTHS[size], window=7)
    initial = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    file = written(checkpoints.public_ssl(tensors), file)
    state, report = started(network, file, output, modalities, modalities)
    assert (report.matched, report.changed) == (of_encoder(tensors), [])
    for name, tensor in state.items():
        assert torch.equal(tensor, tensors[name] if name.startswith("swinViT.") else initial[name])


def test_one_modality_twice_is_answered_as_once(file, output):
    tensors, network = micro(1), swin_unetr(2)
    state, _ = started(network, written(checkpoints.public_ssl(tensors), file), output, ["T1"], ["T1", "T1"])
    image = torch.randn(2, 1, 8, 8, 8)
    before = torch.nn.functional.conv3d(image, tensors[STEM], stride=2)
    after = torch.nn.functional.conv3d(image.expand(-1, 2, -1, -1, -1), state[STEM], stride=2)
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-5)


def test_a_fine_tuned_network_is_restored_whole(file, output):
    convert(written(LAYOUTS["nested"], file), output, BRATS)
    network = swin_unetr(4)
    weights.restore(network, output, BRATS)
    assert all(torch.equal(tensor, SEGMENTER[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("depths", [(2, 2, 2, 2), (1, 1, 3, 1)])
def test_model_swinvit_starts_what_monai_starts(depths, file, output):
    encoder = checkpoints.filled(checkpoints.encoder(1, depths, feature_size=12))
    written(checkpoints.monai_swinvit(encoder), file)
    theirs, ours = (swin_unetr(1, depths=depths, window=7) for _ in range(2))
    theirs.load_from(torch.load(file))
    state, report = started(ours, file, output, ["CT"], ["CT"])
    assert len(report.matched) == len(encoder)
    assert report.unexpected == []
    assert all(torch.equal(tensor, theirs.state_dict()[name]) for name, tensor in state.items())
    assert torch.equal(state[STEM], encoder["patch_embed.proj.weight"])


@pytest.mark.parametrize("outputs", [3, 14])
def test_ssl_pretrained_weights_start_what_monai_starts(outputs, file, output):
    written(LAYOUTS["ssl_pretrained"], file)
    theirs, ours = swin_unetr(1, outputs), swin_unetr(1, outputs)
    copy_model_state(theirs, torch.load(file)["model"], filter_func=filter_swinunetr)
    state, report = started(ours, file, output, ["CT"], ["CT"])
    assert report.missing == ["out.conv.conv.weight", "out.conv.conv.bias"]
    assert all(torch.equal(tensor, theirs.state_dict()[name]) for name, tensor in state.items())
    assert torch.equal(state[STEM], ENCODER["patch_embed.proj.weight"])


def test_a_layer_that_restores_images_does_not_become_one_that_segments(file, output):
    network = swin_unetr(1, outputs=1)
    initial = {name: network.state_dict()[name].clone() for name in ("out.conv.conv.weight", "out.conv.conv.bias")}
    state, _ = started(network, written(LAYOUTS["ssl_pretrained"], file), output, ["CT"], ["CT"])
    assert all(torch.equal(state[name], tensor) for name, tensor in initial.items())


@pytest.mark.parametrize("layout", ["swinvit", "ssl_pretrained", "former"])
def test_weights_of_monai_start_the_ssl_network(layout, file, output):
    network = SSLHead(2, "micro")
    heads = {name: tensor.clone() for name, tensor in network.state_dict().items() if not name.startswith("swinViT.")}
    state, report = started(network, written(LAYOUTS[layout], file), output, ["CT"], ["CT", "T1"])
    if layout == "former":
        assert not report.missing
        assert torch.equal(state["rotation_head.weight"], micro(1)["rotation_head.weight"])
    else:
        assert report.missing == list(heads)
        assert all(torch.equal(state[name], tensor) for name, tensor in heads.items())
        fc1 = "layers2.0.blocks.0.mlp.linear1.weight"
        assert torch.equal(state[f"swinViT.{fc1}"], ENCODER[fc1])


# Heads of the public code that SSLHead lacks

OTHER_HEADS = [
    ("deconv", ("conv.",), ["a reconstruction head of type deconv; expected vae"]),
    ("large_kernel_deconv", ("conv.",), ["a reconstruction head of type large_kernel_deconv; expected vae"]),
    (
        "two_layers",
        ("rotation_", "contrastive_"),
        ["a rotation head of two layers; expected one", "a contrastive head of two layers; expected one"],
    ),
]


@pytest.mark.parametrize(("kind", "heads", "said"), OTHER_HEADS)
def test_another_head_is_named_and_left_out_as_a_whole(kind, heads, said, file, output, capsys):
    tensors = checkpoints.filled(checkpoints.other_ssl_network(kind, 2, **MICRO))
    written(checkpoints.public_ssl(tensors), file)
    inspect(str(file))
    lines = told(capsys.readouterr().out)
    assert lines["other heads"] == ", ".join(said)
    assert set(lines["left out"].split(", ")) == {f"module.{name}" for name in tensors if name.startswith(heads)}
    network = SSLHead(4, "micro")
    initial = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state, report = started(network, file, output, UKB, BRATS)
    printed = capsys.readouterr().out.splitlines()
    assert [f"left out: {head} (DIFF-29)" for head in said] == [
        line for line in printed if line.startswith("left out: ")
    ]
    assert report.missing == [name for name in initial if name.startswith(heads)]
    assert report.unexpected == []
    for name, tensor in state.items():
        if name.startswith(heads):
            assert torch.equal(tensor, initial[name])
        elif name not in (STEM, "conv.20.weight", "conv.20.bias"):
            assert torch.equal(tensor, tensors[name])
    assert torch.equal(state[STEM][:, [2, 0]], tensors[STEM])
    assert weights.read(output).layout.other_heads == []
    assert weights.read(output).metadata["conversions"][0]["layout"]["other_heads"] == said


@pytest.mark.parametrize("kind", [kind for kind, *_ in OTHER_HEADS])
def test_the_encoder_below_another_head_starts_fine_tuning(kind, file, output):
    tensors = checkpoints.filled(checkpoints.other_ssl_network(kind, 1, **MICRO))
    state, report = started(swin_unetr(1), written(checkpoints.public_ssl(tensors), file), output, ["T1"], ["T1"])
    assert report.matched == of_encoder(tensors)
    assert all(torch.equal(state[name], tensors[name]) for name in report.matched)


@pytest.mark.parametrize("name", ["conv.1.weight", "conv.weight", "rotation_pre.scale"])
def test_a_head_that_is_not_known_is_not_taken_for_another_one(name, file):
    read = weights.read(written(checkpoints.public_ssl(micro() | {name: torch.ones(3)}), file))
    assert read.layout.other_heads == read.layout.left_out == []
    assert name in read.state


# What a converted file says


def test_a_foreign_file_says_what_it_was_told_and_no_more(file, output, capsys):
    written(LAYOUTS["swinvit"], file)
    convert(str(file), output, "CT")
    printed = capsys.readouterr().out
    assert printed.startswith(f"{output}: SwinUNETR's encoder, micro, CT\n")
    assert printed.endswith("lack them: module.norm.weight, module.norm.bias\n")
    content = torch.load(output)
    assert content.keys() == {"network", "metadata"}
    assert content["network"].keys() == {f"swinViT.{name}" for name in ENCODER}
    metadata = content["metadata"]
    assert [metadata[name] for name in ("patch_size", "preprocessing", "versions")] == [None, None, None]
    assert metadata["modalities"] == ["CT"]
    assert (metadata["network"], metadata["model_size"]) == ("SwinUNETR's encoder", "micro")
    assert metadata["conversions"] == [
        {
            "file": "theirs.pt",
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            "layout": {
                "wrapper": "state_dict",
                "beside": [],
                "prefix": "module.",
                "encoder": "",
                "left_out": ["module.norm.weight", "module.norm.bias"],
                "other_heads": [],
            },
            "versions": weights.versions(),
        }
    ]
    inspect(output)
    lines = told(capsys.readouterr().out)
    assert [lines[name] for name in ("patch_size", "preprocessing", "versions")] == ["unknown"] * 3
    assert "file theirs.pt, sha256 " in lines["conversions"]
    assert "wrapper state_dict, beside none, prefix module., encoder none, left_out module.norm" in lines["conversions"]


def test_options_tell_what_a_foreign_file_does_not(file, output):
    written(checkpoints.public_ssl(micro()), file)
    convert(str(file), output, ("T1", "FLAIR"), patch_size=(96, 96, 64), preprocessing=("RAS", "z-score"))
    metadata = weights.read(output).metadata
    assert (metadata["patch_size"], metadata["preprocessing"]) == ([96, 96, 64], "RAS, z-score")


@pytest.mark.parametrize("modalities", ["T1,FLAIR", "T1, FLAIR", ("T1", "FLAIR "), ["T1", "FLAIR"]])
def test_modalities_are_named_as_a_shell_hands_them_over(modalities, file, output):
    convert(written(checkpoints.public_ssl(micro()), file), output, modalities)
    assert weights.read(output).metadata["modalities"] == UKB


def test_one_number_is_a_cube(file, output):
    convert(written(checkpoints.public_ssl(micro()), file), output, UKB, patch_size=96)
    assert weights.read(output).metadata["patch_size"] == [96, 96, 96]


OURS = {
    "modalities": UKB,
    "patch_size": [64, 64, 64],
    "preprocessing": "RAS, z-score",
    "label_convention": "brats2021",
    "versions": {"torch": "2.0"},
    "model_size": "base",
}


def test_a_file_of_ours_keeps_what_it_says(file, output):
    weights.write({"network": micro(), "metadata": OURS, "best": 0.5}, file)
    convert(str(file), output)
    metadata = weights.read(output).metadata
    assert {name: metadata[name] for name in OURS} == OURS | {"model_size": "micro"}  # the tensors know better
    assert metadata["conversions"][0]["versions"] == weights.versions()
    assert metadata["conversions"][0]["layout"]["beside"] == ["best"]


def test_every_conversion_is_remembered(file, output, tmp_path):
    convert(written(LAYOUTS["former"], file), output, "T1")
    convert(output, str(tmp_path / "again.pt"), "T1")
    first, second = weights.read(tmp_path / "again.pt").metadata["conversions"]
    assert (first["file"], second["file"]) == ("theirs.pt", "ours.pt")
    assert first["layout"]["encoder"] == "swin_vit."


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modalities": "T1,T2"}, "--modalities=T1, T2: .* states T1, FLAIR; leave the option out"),
        ({"patch_size": 96}, "--patch_size=96, 96, 96: .* states 64, 64, 64; leave the option out"),
        ({"preprocessing": "none"}, "--preprocessing=none: .* states RAS, z-score; leave the option out"),
    ],
)
def test_an_option_does_not_contradict_the_file(options, message, file, output):
    weights.write({"network": micro(), "metadata": OURS}, file)
    with pytest.raises(InputError, match=message) as error:
        convert(str(file), output, **options)
    assert str(file) in one_line(error)


@pytest.mark.parametrize(
    ("modalities", "aliases"),
    [("T1,T2", "{'T2': 'FLAIR'}"), ("T1ce,T2", "{'T1ce': 'T1', 'T2': 'FLAIR'}"), ("FLAIR,T1", None), ("T1", None)],
)
def test_a_file_of_ours_is_not_renamed_and_the_option_that_does_is_named(modalities, aliases, file, output):
    weights.write({"network": micro(), "metadata": OURS}, file)
    with pytest.raises(InputError, match="states T1, FLAIR; leave the option out") as error:
        convert(str(file), output, modalities)
    if aliases is None:
        assert one_line(error).endswith("leave the option out")
        return
    assert one_line(error).endswith(f'give the training --modality_aliases "{aliases}"')
    network, wanted = SSLHead(2, "micro"), modalities.split(",")
    weights.initialise(network, file, wanted, modality_aliases=ast.literal_eval(aliases))
    assert torch.equal(network.state_dict()[STEM], micro()[STEM])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "--modalities: missing; .* has 2 input channels and does not name them"),
        ({"modalities": "T1"}, "--modalities=T1: .* has 2 input channels"),
        ({"modalities": ["T1", "T2", "FLAIR"]}, "--modalities=T1,T2,FLAIR: .* has 2 input channels"),
        ({"modalities": "T1,"}, "--modalities=T1,: expected names"),
        ({"modalities": 5}, "--modalities=5: expected names"),
        ({"modalities": {"T1": 0, "FLAIR": 1}}, "--modalities={'T1': 0, 'FLAIR': 1}: expected names"),
        ({"modalities": ()}, r"--modalities=\(\): expected names"),
        ({"modalities": UKB, "patch_size": (96, 96)}, r"--patch_size=\(96, 96\): expected three lengths in voxels"),
        ({"modalities": UKB, "patch_size": "96x96"}, "--patch_size=96x96: expected three lengths in voxels"),
        ({"modalities": UKB, "patch_size": 0}, "--patch_size=0: expected three lengths in voxels"),
        ({"modalities": UKB, "patch_size": True}, "--patch_size=True: expected three lengths in voxels"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message, file, output, tmp_path):
    written(checkpoints.public_ssl(micro()), file)
    with pytest.raises(InputError, match=message) as error:
        convert(str(file), output, **options)
    one_line(error)
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("history", [3, None, "once", torch.eye(2)])
def test_a_history_that_is_no_list_is_refused(history, file, output):
    weights.write({"network": micro(), "metadata": OURS | {"conversions": history}}, file)
    with pytest.raises(InputError, match=r"metadata's conversions are .*; expected a list") as error:
        convert(str(file), output)
    assert str(file) in one_line(error)
    assert not Path(output).exists()


def test_inspect_prints_tensors_that_a_file_says_of_itself(file, capsys):
    weights.write({"network": micro(), "metadata": OURS | {"grid": torch.tensor([64, 64])}}, file)
    inspect(str(file))
    assert told(capsys.readouterr().out)["grid"] == "tensor([64, 64])"


def test_a_patch_size_that_the_file_says_as_well_may_be_repeated(file, output):
    weights.write({"network": micro(), "metadata": OURS | {"patch_size": (64, 64, 64)}}, file)
    convert(str(file), output, patch_size=64)
    assert weights.read(output).metadata["patch_size"] == [64, 64, 64]


def test_a_file_that_is_there_is_left_alone(file, output, tmp_path):
    (tmp_path / "ours.pt").write_text("mine")
    with pytest.raises(InputError, match=r"ours.pt: exists already; expected a new file"):
        convert(written(checkpoints.public_ssl(micro()), file), output, UKB)
    assert (tmp_path / "ours.pt").read_text() == "mine"


def test_a_place_that_cannot_be_written_is_named(file, tmp_path):
    (tmp_path / "taken").write_text("a file, no folder")
    with pytest.raises(InputError, match=r"taken/ours.pt: .*; expected a file that can be written") as error:
        convert(written(checkpoints.public_ssl(micro()), file), str(tmp_path / "taken" / "ours.pt"), UKB)
    one_line(error)


# The command line


def command(*arguments):
    line = [sys.executable, "-m", "scripts.weights", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def test_the_command_line_converts_and_inspects(file, output):
    written(checkpoints.public_ssl(micro()), file)
    ended = command("convert", file, "--modalities=T1,FLAIR", f"--output={output}", "--patch_size=96,96,96")
    assert (ended.returncode, ended.stderr) == (0, "")
    ended = command("inspect", output)
    assert (ended.returncode, ended.stderr) == (0, "")
    lines = told(ended.stdout)
    assert (lines["modalities"], lines["patch_size"], lines["preprocessing"]) == ("T1, FLAIR", "96, 96, 96", "unknown")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inspect", "5"], "checkpoint 5: expected the path of a file"),
        (["inspect", "[a]"], "checkpoint ['a']: expected the path of a file"),
        (["convert", "5", "--output=o.pt"], "checkpoint 5: expected the path of a file"),
        (["convert", "FILE", "--output=5"], "--output=5: expected the path of a file"),
        (["convert", "FILE", "--output=OUTPUT", "--modalities=5"], "--modalities=5: expected names such as T1,FLAIR"),
    ],
)
def test_a_command_line_that_holds_numbers_ends_in_one_line(arguments, message, file, output):
    written(checkpoints.public_ssl(micro()), file)
    ended = command(*(text.replace("FILE", str(file)).replace("OUTPUT", output) for text in arguments))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"error: {message}")
    assert ended.stderr.count("\n") == 1


class Evil:
    """Touches a file as soon as it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_code_in_a_file_is_not_run(file, tmp_path):
    marker = tmp_path / "marker"
    written(checkpoints.public_ssl(micro()) | {"args": Evil(marker)}, file)
    ended = command("inspect", file)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert not marker.exists()
    assert ended.stderr.startswith(f"error: checkpoint {file}: cannot be read as tensors alone: it needs ")
    assert ended.stderr.endswith("torch.save({'state_dict': model.state_dict()}, 'G.pt')\n")
    assert ended.stderr.count("\n") == 1
    torch.load(file, weights_only=False)
    assert marker.exists()  # it would have run


@pytest.mark.parametrize("extra", [{"args": argparse.Namespace(lr=1)}, {"best_acc": np.mean([0.9])}])
def test_a_file_that_needs_unpickling_can_be_saved_again_as_the_message_says(extra, file, output):
    model = SSLHead(1, "micro")
    written({"state_dict": model.state_dict()} | extra, file)
    with pytest.raises(InputError, match="whoever made it can save the tensors alone with ") as error:
        convert(str(file), output, "T1")
    line = one_line(error).split("alone with ")[1]
    again = file.with_name("G.pt")
    exec(line.replace("'G.pt'", f"{str(again)!r}"), {"torch": torch, "model": model})
    convert(str(again), output, "T1")
    assert weights.read(output).metadata["modalities"] == ["T1"]


def test_sizes_are_those_of_the_bundles():
    assert describe(SSLHead(1, "micro").state_dict())["window_size"] == settings("micro").window_size


def test_names_and_metadata_of_a_file_cannot_write_to_the_terminal(file):
    hostile = "a\x1b[2J\nnetwork            forged\u202e"
    state = micro() | {f"{hostile}.bias": torch.zeros(1)}
    metadata = {"modalities": UKB, "preprocessing": hostile, hostile: 1}
    written({"network": state, "metadata": metadata, hostile: 1}, file)
    command = [sys.executable, "-m", "scripts.weights", "inspect", str(file)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert not set("\x1b\u202e") & set(ended.stdout)
    assert told(ended.stdout)["network"] == "SSLHead"
    assert ended.stdout.count(r"a\x1b[2J\nnetwork            forged\u202e") == 4  # beside it, metadata twice, modules
