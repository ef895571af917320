"""`scripts.weights`: how files of others are told apart, what a converted one says, and which network it starts."""

import ast
import hashlib
import math
import sys
from pathlib import Path

import pytest
import torch
from monai.networks.nets import SwinUNETR
from monai.networks.nets.swin_unetr import filter_swinunetr
from monai.networks.utils import copy_model_state

from common import weights
from common.errors import InputError
from common.ssl.networks import SSLHead
from scripts.weights.__main__ import convert, inspect
from scripts.weights.description import describe
from tests.oracles import checkpoints
from tests.oracles.paper import SSL_PARAMETERS, SWIN_UNETR_PARAMETERS
from tests.support import execute, one_line

UKB, BRATS = ["T1", "FLAIR"], ["FLAIR", "T1ce", "T1", "T2"]
STEM = "swinViT.patch_embed.proj.weight"
MODALITY_TENSORS = (STEM, "conv.20.weight", "conv.20.bias")
MICRO = {"depths": (1, 1, 1, 1), "feature_size": 12, "window": 4}


def micro(channels=2):
    return checkpoints.filled(checkpoints.ssl_network(channels, **MICRO))


PUBLIC = checkpoints.public_ssl(micro())
ENCODER = checkpoints.filled(checkpoints.encoder(1, **MICRO))
DECODER = checkpoints.filled(checkpoints.decoder(1, feature_size=12), seed=1)
SEGMENTER = checkpoints.filled(checkpoints.swin_unetr(4, 3, **MICRO))
OURS = {
    "modalities": UKB,
    "patch_size": [64, 64, 64],
    "preprocessing": "RAS, z-score",
    "label_convention": "brats2021",
    "versions": {"torch": "2.0"},
    "model_size": "base",
}


def swin_unetr(channels, outputs=3, depths=(1, 1, 1, 1), window=4):
    torch.manual_seed(1)
    return SwinUNETR(channels, outputs, depths=depths, feature_size=12, window_size=window)


@pytest.fixture
def file(tmp_path):
    """A public file of the self-supervised network, for T1 and FLAIR."""
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


def lines_of(printed):
    return {line[:18].strip(): line[19:] for line in printed.splitlines()}


def equal(state, expected, names=None):
    return all(torch.equal(state[name], expected[name]) for name in (expected if names is None else names))


# What a file is


@pytest.mark.parametrize(("size", "channels"), [("tiny", 1), ("small", 2), ("base", 4)])
def test_ssl_networks_of_true_size_are_recognised(size, channels):
    found = describe(checkpoints.hollow(checkpoints.ssl_network(channels, checkpoints.DEPTHS[size])))
    tensors = found.pop("tensors")
    assert tensors == len(checkpoints.ssl_network(channels, checkpoints.DEPTHS[size]))
    assert found == {
        "network": "SSLHead",
        "model_size": size,
        "depths": checkpoints.DEPTHS[size],
        "feature_size": 48,
        "window_size": 7,
        "num_heads": (3, 6, 12, 24),
        "input_channels": channels,
        "parameters": SSL_PARAMETERS[size, channels],
    }


def test_segmentation_networks_of_true_size_are_recognised():
    found = describe(checkpoints.hollow(checkpoints.swin_unetr(4, 3, checkpoints.DEPTHS["small"])))
    assert found["parameters"] == SWIN_UNETR_PARAMETERS["small", 4, 3]
    assert (found["network"], found["model_size"]) == ("SwinUNETR", "small")
    assert (found["input_channels"], found["output_channels"]) == (4, 3)


def test_networks_of_no_size_of_ours_are_described():
    shapes = checkpoints.ssl_network(1, (2, 1, 1, 1), 24, window=5, heads=(2, 4, 8, 16))
    found = describe(checkpoints.hollow(shapes))
    assert found["model_size"] == "depths (2, 1, 1, 1), feature size 24"
    assert (found["depths"], found["feature_size"]) == ((2, 1, 1, 1), 24)
    assert (found["window_size"], found["num_heads"]) == (5, (2, 4, 8, 16))


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
    shapes = checkpoints.ssl_network(1, **MICRO) | checkpoints.swin_unetr(1, 2, **MICRO)
    state = checkpoints.hollow({name: shape for name, shape in shapes.items() if not name.startswith(absent)})
    assert describe(state)["network"] == network


SSL, UNETR = checkpoints.ssl_network(1, **MICRO), checkpoints.swin_unetr(1, 3, **MICRO)
TABLE = "swinViT.layers1.0.blocks.0.attn.relative_position_bias_table"
VARIANT = "an unknown variant of "
OF_ENCODER = (
    rf"{VARIANT}SwinUNETR's encoder; expected that of MONAI's SwinUNETR, version 1; 1 tensors are .* first NAME"
)


@pytest.mark.parametrize(
    ("shapes", "name", "shape", "message"),
    [
        (SSL, STEM, None, "an unknown network; expected SwinUNETR's 3D encoder.*; its 85 tensors begin with swinViT"),
        (SSL, STEM, (12, 1, 2, 2), "an unknown network; expected SwinUNETR's 3D encoder"),
        (SSL, STEM, (12, 0, 2, 2, 2), "an unknown network; expected SwinUNETR's 3D encoder"),
        (
            SSL,
            TABLE.replace("layers1", "layers2"),
            None,
            "SwinUNETR's encoder lacks levels; expected blocks in layers1",
        ),
        (SSL, "swinViT.layers3.0.blocks.0.attn.qkv.bias", None, OF_ENCODER),
        (SSL, "swinViT.layers3.0.blocks.0.attn.qkv.bias", (7,), OF_ENCODER),
        (SSL, "swinViT.layers3.0.blocks.2.attn.qkv.bias", (144,), OF_ENCODER),
        (SSL, "swinViT.layers1c.0.conv1.weight", (12, 12, 3, 3, 3), OF_ENCODER),  # MONAI's second version
        (SSL, TABLE, (343,), rf"{VARIANT}.* 1 have another shape, first \[343\]"),
        (SSL, TABLE, (343, 0), rf"{VARIANT}.* 1 have another shape, first \[343, 0\]"),
        (SSL, TABLE, (343, 5), rf"{VARIANT}.* its 12 filters, .* do not divide into 5, 6, 12, 24 heads"),
        (SSL, "rotation_head.weight", (10, 192), f"{VARIANT}SSLHead; .* 1 tensors are .* first NAME"),
        (SSL, "contrastive_head.bias", None, f"{VARIANT}SSLHead; .* 1 tensors are .* first NAME"),
        (SSL, "conv.24.bias", (1,), f"{VARIANT}SSLHead; .* 1 tensors are .* first NAME"),
        (UNETR, "decoder1.transp_conv.conv.weight", (12,), f"{VARIANT}SwinUNETR; .* 1 tensors are .* first NAME"),
        (UNETR, "encoder10.layer.conv2.conv.weight", None, f"{VARIANT}SwinUNETR; .* 1 tensors are .* first NAME"),
        (UNETR, "encoder1.layer.norm1.weight", (12,), f"{VARIANT}SwinUNETR; .* 1 tensors are .* first NAME"),
        (UNETR, "out.conv.conv.weight", (4, 12, 1, 1, 1), f"{VARIANT}SwinUNETR; .* 1 tensors are .* first NAME"),
        (UNETR, "out.conv.conv.bias", (), f"{VARIANT}SwinUNETR; .* 2 tensors are"),
        (
            checkpoints.swin_unetr(1, 3, (1, 1, 1, 1), feature_size=8, window=4, heads=(2, 4, 8, 16)),
            "more",
            (1,),
            "its feature size is 8, expected a multiple of 12",
        ),
    ],
)
def test_networks_that_monai_does_not_build_are_refused(shapes, name, shape, message):
    changed = {other: shape for other, shape in shapes.items() if other != name}
    state = checkpoints.hollow(changed if shape is None else changed | {name: shape})
    with pytest.raises(InputError, match=f"^F: .*{message.replace('NAME', name)}") as error:
        describe(state, "F")
    one_line(error)


# What inspect prints


def test_inspect_prints_how_a_public_file_holds_what(file, capsys):
    inspect(str(file))
    tensors = checkpoints.ssl_network(2, **MICRO)
    numbers = sum(math.prod(shape) for name, shape in tensors.items() if not name.endswith("_index"))
    assert lines_of(capsys.readouterr().out) == {
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


LAYOUTS = {
    "swinvit": checkpoints.monai_swinvit(ENCODER),
    "ssl_pretrained": checkpoints.monai_ssl_pretrained(ENCODER, DECODER),
    "former": checkpoints.former_ssl(micro(1)),
    "finetuned": checkpoints.public_finetuned(SEGMENTER),
    "nested": checkpoints.under("module.backbone.", SEGMENTER),
}


@pytest.mark.parametrize(
    ("layout", "wrapper", "beside", "prefix", "encoder", "left_out", "network"),
    [
        ("swinvit", "state_dict", "nothing", "module.", "no name of its own", 2, "SwinUNETR's encoder"),
        ("ssl_pretrained", "model", "epoch, optimizer", "none", "encoder.", 5, "SwinUNETR without its output layer"),
        ("former", "state_dict", "nothing", "none", "swin_vit.", 0, "SSLHead"),
        ("finetuned", "state_dict", "epoch, best_acc", "none", "swinViT.", 0, "SwinUNETR"),
        ("nested", "none", "nothing", "module.backbone.", "swinViT.", 0, "SwinUNETR"),
    ],
)
def test_inspect_prints_every_layout(layout, wrapper, beside, prefix, encoder, left_out, network, file, capsys):
    inspect(written(LAYOUTS[layout], file))
    lines = lines_of(capsys.readouterr().out)
    assert [lines[name] for name in ("wrapper", "beside it", "prefix", "encoder")] == [wrapper, beside, prefix, encoder]
    assert len([name for name in lines["left out"].split(", ") if name != "nothing"]) == left_out
    assert (lines["network"], lines["model_size"]) == (network, "micro")


def test_the_documentation_shows_what_inspect_prints(file, capsys):
    shown = Path("docs/weights.md").read_text().split("```text\n")[1].split("```")[0]
    tensors = checkpoints.hollow(checkpoints.ssl_network(2, checkpoints.DEPTHS["small"]))
    inspect(written(checkpoints.public_ssl(tensors), file))
    assert capsys.readouterr().out == shown


def test_inspect_prints_what_a_file_of_ours_says(file, capsys):
    pad = {"_target_": "SpatialPadd", "keys": ["image"], "spatial_size": [64, 64, 64]}
    components = {"loss": {"_target_": "DiceLoss", "sigmoid": True}, "random_transforms": [pad, {"a": torch.ones(1)}]}
    inspect(ours(file, components=components, grid=torch.tensor([64, 64])))
    shown = capsys.readouterr().out
    lines = lines_of(shown)
    assert lines["modalities"] == "T1, FLAIR"
    assert lines["versions"] == "torch 2.0"
    assert lines["grid"] == "tensor([64, 64])"
    assert lines["model_size"] == "micro, although the file states base"
    assert (lines["wrapper"], lines["beside it"]) == ("network", "best")
    assert "\nloss: {_target_: DiceLoss, sigmoid: true}\n" in shown  # as a config has it
    assert "\n- _target_: SpatialPadd\n  keys: [image]\n  spatial_size: [64, 64, 64]\n" in shown


# Converted files start our networks


def started(network, file, output, known, wanted):
    """The network's tensors after it was given a file that was converted."""
    convert(str(file), output, ",".join(known))
    report = weights.initialise(network, output, wanted)
    return network.state_dict(), report


def copy_of(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize(("known", "wanted"), [(UKB, BRATS), (["T1"], ["T1", "T1"])])
def test_a_public_file_starts_stage_2(known, wanted, file, output):
    """At its true size; the tensors hold zeros but for channel i of those with one slice a modality, which is i + 1."""
    shapes = checkpoints.ssl_network(len(known), checkpoints.DEPTHS["tiny"])
    number = torch.arange(1.0, len(known) + 1)
    tensors = checkpoints.hollow(shapes) | {
        STEM: number.view(1, -1, 1, 1, 1).expand(shapes[STEM]),
        "conv.20.weight": number.view(-1, 1, 1, 1, 1).expand(shapes["conv.20.weight"]),
        "conv.20.bias": number,
    }
    network = SSLHead(len(wanted), "tiny")
    initial = network.state_dict()["conv.20.bias"].clone()
    state, report = started(network, written(checkpoints.public_ssl(tensors), file), output, known, wanted)
    assert report.counts() == {"matched": len(shapes) - 3, "changed": 3, "missing": 0, "unexpected": 0}
    for channel, modality in enumerate(wanted):
        filters, bias = state[STEM][:, channel], state["conv.20.bias"][channel]
        if modality in known:
            assert (filters == (known.index(modality) + 1) / wanted.count(modality)).all()
            assert bias == known.index(modality) + 1
        else:
            assert filters.std().item() == pytest.approx((2 / (48 * 8)) ** 0.5, rel=0.15)  # Kaiming, fan out
            assert bias == initial[channel]
    assert not state["rotation_head.weight"].any()


@pytest.mark.parametrize(("size", "wanted"), [("tiny", BRATS), ("small", ["T1"]), ("base", UKB)])
def test_a_public_file_starts_fine_tuning(size, wanted, file, output):
    tensors = checkpoints.filled(checkpoints.ssl_network(2, checkpoints.DEPTHS[size], feature_size=12))
    network = swin_unetr(len(wanted), depths=checkpoints.DEPTHS[size], window=7)
    initial = copy_of(network)
    state, report = started(network, written(checkpoints.public_ssl(tensors), file), output, UKB, wanted)
    encoder = [name for name in tensors if name.startswith("swinViT.")]
    assert report.matched == [name for name in encoder if name != STEM or wanted == UKB]
    assert report.changed == ([] if wanted == UKB else [f"{STEM}: T1, FLAIR -> {', '.join(wanted)}"])
    assert equal(state, tensors, report.matched)
    assert equal(state, initial, report.missing)
    known = [modality for modality in wanted if modality in UKB]
    assert torch.equal(
        state[STEM][:, [wanted.index(m) for m in known]], tensors[STEM][:, [UKB.index(m) for m in known]]
    )


def test_a_fine_tuned_network_is_restored_whole(file, output):
    convert(written(LAYOUTS["nested"], file), output, BRATS)
    network = swin_unetr(4)
    weights.restore(network, output, BRATS)
    assert equal(network.state_dict(), SEGMENTER)


def test_model_swinvit_starts_what_monai_starts(file, output):
    encoder = checkpoints.filled(checkpoints.encoder(1, (1, 1, 3, 1), feature_size=12))
    written(checkpoints.monai_swinvit(encoder), file)
    theirs, network = (swin_unetr(1, depths=(1, 1, 3, 1), window=7) for _ in range(2))
    theirs.load_from(torch.load(file))
    state, report = started(network, file, output, ["CT"], ["CT"])
    assert len(report.matched) == len(encoder)
    assert report.unexpected == []
    assert equal(state, theirs.state_dict())
    assert torch.equal(state[STEM], encoder["patch_embed.proj.weight"])


@pytest.mark.parametrize("outputs", [1, 14])
def test_ssl_pretrained_weights_start_what_monai_starts(outputs, file, output):
    """But for the layer that restores images, which does not become one that segments."""
    written(LAYOUTS["ssl_pretrained"], file)
    theirs, network = swin_unetr(1, outputs), swin_unetr(1, outputs)
    initial = copy_of(network)
    copy_model_state(theirs, torch.load(file)["model"], filter_func=filter_swinunetr)
    state, report = started(network, file, output, ["CT"], ["CT"])
    assert report.missing == ["out.conv.conv.weight", "out.conv.conv.bias"]
    assert equal(state, initial, report.missing)
    assert equal(state, theirs.state_dict(), [name for name in state if name not in report.missing])
    assert torch.equal(state[STEM], ENCODER["patch_embed.proj.weight"])


# Heads of the public code that SSLHead lacks


@pytest.mark.parametrize(
    ("kind", "heads", "said"),
    [
        ("deconv", ("conv.",), ["a reconstruction head of type deconv; expected vae"]),
        ("large_kernel_deconv", ("conv.",), ["a reconstruction head of type large_kernel_deconv; expected vae"]),
        (
            "two_layers",
            ("rotation_", "contrastive_"),
            ["a rotation head of two layers; expected one", "a contrastive head of two layers; expected one"],
        ),
    ],
)
def test_another_head_is_named_and_left_out_as_a_whole(kind, heads, said, file, output, capsys):
    tensors = checkpoints.filled(checkpoints.other_ssl_network(kind, 2, **MICRO))
    inspect(written(checkpoints.public_ssl(tensors), file))
    lines = lines_of(capsys.readouterr().out)
    assert lines["other heads"] == ", ".join(said)
    assert set(lines["left out"].split(", ")) == {f"module.{name}" for name in tensors if name.startswith(heads)}
    network = SSLHead(4, "micro")
    initial = copy_of(network)
    state, report = started(network, file, output, UKB, BRATS)
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("left out: ")]
    assert printed == [f"left out: {head} (DIFF-29)" for head in said]
    assert report.missing == [name for name in initial if name.startswith(heads)]
    assert report.unexpected == []
    assert equal(state, initial, report.missing)
    assert equal(state, tensors, [name for name in report.matched if name not in MODALITY_TENSORS])
    assert torch.equal(state[STEM][:, [2, 0]], tensors[STEM])
    read = weights.read(output)
    assert read.layout.other_heads == []
    assert read.metadata["conversions"][0]["layout"]["other_heads"] == said


@pytest.mark.parametrize("name", ["conv.1.weight", "conv.weight", "rotation_pre.scale"])
def test_an_unknown_head_is_not_taken_for_a_known_one(name, file):
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
    (conversion,) = metadata["conversions"]
    layout = {"wrapper": "state_dict", "beside": [], "prefix": "module.", "encoder": "", "other_heads": []}
    layout["left_out"] = ["module.norm.weight", "module.norm.bias"]
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert conversion == {"file": "theirs.pt", "sha256": digest, "layout": layout, "versions": weights.versions()}
    inspect(output)
    lines = lines_of(capsys.readouterr().out)
    assert [lines[name] for name in ("patch_size", "preprocessing", "versions")] == ["unknown"] * 3
    assert "file theirs.pt, sha256 " in lines["conversions"]
    assert "wrapper state_dict, beside none, prefix module., encoder none, left_out module.norm" in lines["conversions"]


@pytest.mark.parametrize(
    ("modalities", "options", "patch_size"),
    [
        ("T1,FLAIR", {}, None),
        ("T1, FLAIR", {"patch_size": 96}, [96, 96, 96]),
        (("T1", "FLAIR "), {"patch_size": (96, 96, 64), "preprocessing": ("RAS", "z-score")}, [96, 96, 64]),
    ],
)
def test_options_say_what_a_foreign_file_does_not(modalities, options, patch_size, file, output):
    convert(str(file), output, modalities, **options)
    metadata = weights.read(output).metadata
    assert (metadata["modalities"], metadata["patch_size"]) == (UKB, patch_size)
    assert metadata["preprocessing"] == ("RAS, z-score" if "preprocessing" in options else None)


def test_a_file_of_ours_keeps_what_it_says_and_every_conversion_is_remembered(file, output, tmp_path):
    convert(ours(file, patch_size=(64, 64, 64)), output, patch_size=64)  # what the file says may be repeated
    metadata = weights.read(output).metadata
    assert {name: metadata[name] for name in OURS} == OURS | {"model_size": "micro"}  # the tensors know better
    assert metadata["conversions"][0]["layout"]["beside"] == ["best"]
    convert(output, str(tmp_path / "again.pt"))
    first, second = weights.read(tmp_path / "again.pt").metadata["conversions"]
    assert (first["file"], second["file"]) == ("theirs.pt", "ours.pt")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modalities": "FLAIR,T1"}, r"--modalities=FLAIR, T1: .* states T1, FLAIR; leave the option out$"),
        ({"patch_size": 96}, r"--patch_size=96, 96, 96: .* states 64, 64, 64; leave the option out$"),
        ({"preprocessing": "none"}, r"--preprocessing=none: .* states RAS, z-score; leave the option out$"),
    ],
)
def test_an_option_does_not_contradict_the_file(options, message, file, output):
    with pytest.raises(InputError, match=message) as error:
        convert(ours(file), output, **options)
    assert str(file) in one_line(error)


@pytest.mark.parametrize(
    ("modalities", "aliases"), [("T1,T2", "{'T2': 'FLAIR'}"), ("T1ce,T2", "{'T1ce': 'T1', 'T2': 'FLAIR'}")]
)
def test_a_file_of_ours_is_not_renamed_and_the_option_that_does_is_named(modalities, aliases, file, output):
    with pytest.raises(InputError, match="states T1, FLAIR; leave the option out") as error:
        convert(ours(file), output, modalities)
    assert one_line(error).endswith(f'give the training --modality_aliases "{aliases}"')
    network = SSLHead(2, "micro")
    weights.initialise(network, file, modalities.split(","), modality_aliases=ast.literal_eval(aliases))
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
def test_options_that_cannot_be_are_refused(options, message, file, output):
    with pytest.raises(InputError, match=message) as error:
        convert(str(file), output, **options)
    one_line(error)
    assert not Path(output).exists()


@pytest.mark.parametrize("history", [None, "once", torch.eye(2)])
def test_a_history_that_is_no_list_is_refused(history, file, output):
    with pytest.raises(InputError, match=r"metadata's conversions are .*; expected a list") as error:
        convert(ours(file, conversions=history), output)
    assert str(file) in one_line(error)
    assert not Path(output).exists()


def test_a_file_that_exists_and_a_place_that_cannot_be_written_are_refused(file, tmp_path):
    taken = tmp_path / "taken"
    taken.write_text("mine")
    with pytest.raises(InputError, match=r"taken: exists already; expected a new file"):
        convert(str(file), str(taken), UKB)
    with pytest.raises(InputError, match=r"taken/ours.pt: .*; expected a file that can be written") as error:
        convert(str(file), str(taken / "ours.pt"), UKB)
    one_line(error)
    assert taken.read_text() == "mine"


# The command line


def command(*arguments):
    return execute([sys.executable, "-m", "scripts.weights", *map(str, arguments)])


def test_the_command_line_converts_and_inspects_and_a_file_cannot_write_to_the_terminal(file, output):
    hostile = "a\x1b[2J\nnetwork            forged\u202e"
    state = micro() | {f"{hostile}.bias": torch.zeros(1)}
    written({"network": state, "metadata": {"preprocessing": hostile, hostile: 1}, hostile: 1}, file)
    ended = command("convert", file, "--modalities=T1,FLAIR", f"--output={output}", "--patch_size=96,96,96")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert weights.read(output).metadata["patch_size"] == [96, 96, 96]
    ended = command("inspect", file)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert not set("\x1b\u202e") & set(ended.stdout)
    assert lines_of(ended.stdout)["network"] == "SSLHead"
    assert ended.stdout.count(r"a\x1b[2J\nnetwork            forged\u202e") == 4  # beside it, metadata twice, modules


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inspect", "[a]"], "checkpoint ['a']: expected the path of a file"),
        (["convert", "FILE", "--output=5"], "--output=5: expected the path of a file"),
    ],
)
def test_a_command_line_that_holds_no_paths_ends_in_one_line(arguments, message, file):
    ended = command(*(text.replace("FILE", str(file)) for text in arguments))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"error: {message}")
    assert ended.stderr.count("\n") == 1
