import errno
import json
import os
import struct
import sys

import ignite
import monai
import numpy as np
import pytest
import torch
from monai.networks.nets import SwinUNETR
from torch import nn

from common import weights
from common.networks import SSLHead, settings
from common.preflight import InputError

UKB, BRATS = ["T1", "FLAIR"], ["FLAIR", "T1ce", "T1", "T2"]
STEM = "swinViT.patch_embed.proj.weight"
MODALITY_TENSORS = {STEM, "conv.20.weight", "conv.20.bias"}  # of SSLHead


def ssl_head(channels, seed=0, size="micro"):
    torch.manual_seed(seed)
    return SSLHead(in_channels=channels, model_size=size).eval()


def swin_unetr(channels, outputs=1, seed=0):
    torch.manual_seed(seed)
    return SwinUNETR(in_channels=channels, out_channels=outputs, **settings("micro")._asdict()).eval()


def saved(network, path, modalities, **metadata):
    weights.write({"network": network.state_dict(), "metadata": {"modalities": modalities, **metadata}}, path)
    return path


@pytest.fixture
def file(tmp_path):
    return tmp_path / "model.pt"


def respond(network, image):
    with torch.no_grad():
        return network(image)


# Surgery: what the network says of an image stays what it was


def spread(image, places, channels):
    """The channels of an image at other places among `channels`, the rest zero."""
    result = torch.zeros(len(image), channels, *image.shape[2:])
    result[:, places] = image
    return result


@pytest.mark.parametrize(
    ("known", "wanted", "places"),
    [
        (UKB, BRATS, [2, 0]),
        (UKB, ["FLAIR", "T1"], [1, 0]),
        (UKB, ["T1", "FLAIR", "T2"], [0, 1]),
        (["T1"], ["T2", "T1"], [1]),
        (BRATS, ["T2", "T1", "T1ce", "FLAIR"], [3, 2, 1, 0]),
    ],
)
def test_known_modalities_are_answered_as_before_where_the_new_ones_are_silent(file, known, wanted, places):
    old, new = ssl_head(len(known)), ssl_head(len(wanted), seed=1)
    weights.initialise(new, saved(old, file, known), wanted)
    image = torch.randn(1, len(known), 64, 64, 64)
    before, after = respond(old, image), respond(new, spread(image, places, len(wanted)))
    for task in ("rotation", "contrastive"):
        torch.testing.assert_close(after[task], before[task], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(after["reconstruction"][:, places], before["reconstruction"], rtol=1e-4, atol=1e-4)


def test_a_dropped_modality_is_as_if_it_were_zero(file):
    old, new = ssl_head(2), ssl_head(1, seed=1)
    weights.initialise(new, saved(old, file, UKB), ["FLAIR"])
    image = torch.randn(1, 1, 64, 64, 64)
    before, after = respond(old, spread(image, [1], 2)), respond(new, image)
    torch.testing.assert_close(after["rotation"], before["rotation"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(after["reconstruction"], before["reconstruction"][:, 1:], rtol=1e-4, atol=1e-4)


def test_one_modality_in_two_channels_is_answered_as_in_one(file):
    old, new = ssl_head(1), ssl_head(2, seed=1)
    weights.initialise(new, saved(old, file, ["T1"]), ["T1", "T1"])
    image = torch.randn(1, 1, 64, 64, 64)
    before, after = respond(old, image), respond(new, image.repeat(1, 2, 1, 1, 1))
    torch.testing.assert_close(after["rotation"], before["rotation"], rtol=1e-4, atol=1e-4)
    for channel in (0, 1):
        restored = after["reconstruction"][:, channel : channel + 1]
        torch.testing.assert_close(restored, before["reconstruction"], rtol=1e-4, atol=1e-4)
    one, other = new.state_dict()[STEM].unbind(dim=1)
    assert torch.equal(one, other)  # shared, not all on one channel


def test_one_modality_from_two_channels_is_answered_as_in_two(file):
    old, new = ssl_head(2), ssl_head(1, seed=1)
    weights.initialise(new, saved(old, file, ["T1", "T1"]), ["T1"])
    image = torch.randn(1, 1, 64, 64, 64)
    before, after = respond(old, image.repeat(1, 2, 1, 1, 1)), respond(new, image)
    torch.testing.assert_close(after["rotation"], before["rotation"], rtol=1e-4, atol=1e-4)
    average = before["reconstruction"].mean(dim=1, keepdim=True)
    torch.testing.assert_close(after["reconstruction"], average, rtol=1e-4, atol=1e-4)


def test_swin_unetr_in_other_modalities_is_answered_as_before(file):
    old, new = swin_unetr(2, outputs=3), swin_unetr(4, outputs=3, seed=1)
    report = weights.initialise(new, saved(old, file, UKB), BRATS)
    image = torch.randn(1, 2, 64, 64, 64)
    torch.testing.assert_close(respond(new, spread(image, [2, 0], 4)), respond(old, image), rtol=1e-4, atol=1e-4)
    changed = {line.split(":")[0] for line in report.changed}
    assert changed == {STEM, "encoder1.layer.conv1.conv.weight", "encoder1.layer.conv3.conv.weight"}
    assert not report.missing
    assert not report.unexpected


def test_a_set_without_any_known_modality_begins_anew(file):
    old, new = ssl_head(2), ssl_head(1, seed=1)
    weights.initialise(new, saved(old, file, UKB), ["CT"])
    stem, given = new.state_dict()[STEM], old.state_dict()[STEM]
    assert not any(torch.equal(stem[:, 0], given[:, channel]) for channel in (0, 1))
    assert stem.std() > 0
    assert torch.equal(new.state_dict()["rotation_head.weight"], old.state_dict()["rotation_head.weight"])


@pytest.mark.parametrize(("axis", "fan_in"), [(1, 4 * 27), (0, 2 * 27)])
def test_new_modalities_are_initialised_after_kaiming(axis, fan_in):
    shape = [300, 2, 3, 3, 3] if axis == 1 else [2, 2, 3, 3, 3]
    wide = [300, 4, 3, 3, 3] if axis == 1 else [600, 2, 3, 3, 3]
    known = ["a", "b"]
    wanted = ["b", "c", "a", "d"] if axis == 1 else ["b", *(f"new{i}" for i in range(598)), "a"]
    torch.manual_seed(0)
    given = torch.randn(shape)
    result = weights.transfer(given, torch.full(wide, 7.0), axis, known, wanted)
    assert torch.equal(result.select(axis, wanted.index("a")), given.select(axis, 0))
    assert torch.equal(result.select(axis, wanted.index("b")), given.select(axis, 1))
    new = torch.cat([result.select(axis, i).flatten() for i, name in enumerate(wanted) if name not in known])
    assert new.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.03)  # He et al., ICCV 2015
    assert new.mean().item() == pytest.approx(0, abs=0.01)
    assert (new == 0).sum() == 0


def test_bias_of_a_new_modality_stays_as_initialised():
    given, initial = torch.tensor([1.0, 2.0]), torch.tensor([10.0, 20.0, 30.0])
    result = weights.transfer(given, initial, 0, ["T1", "FLAIR"], ["T2", "FLAIR", "T1"])
    assert result.tolist() == [10, 2, 1]
    assert initial.tolist() == [10, 20, 30]


@pytest.mark.parametrize("shape", [[5, 3, 2, 2, 2], [6, 2, 2, 2, 2], [5, 2, 2, 2]])
def test_surgery_refuses_shapes_that_do_not_allow_it(shape):
    with pytest.raises(InputError, match=r"checkpoint f: stem: shape .*; expected \[5, 2, 2, 2, 2\] for T1, FLAIR"):
        weights.transfer(torch.zeros(shape), torch.zeros(5, 4, 2, 2, 2), 1, UKB, BRATS, "f: stem")


# The report


def test_report_counts_every_tensor_once(file):
    old, new = ssl_head(2), ssl_head(4, seed=1)
    report = weights.initialise(new, saved(old, file, UKB), BRATS)
    total = len(new.state_dict())
    assert report.counts() == {"matched": total - 3, "changed": 3, "missing": 0, "unexpected": 0}
    assert {line.split(":")[0] for line in report.changed} == MODALITY_TENSORS
    printed = str(report)
    assert printed.startswith(f"weights: {file}: {total - 3} matched, 3 changed, 0 missing, 0 unexpected\n")
    assert f"{STEM}: T1, FLAIR -> FLAIR, T1ce, T1, T2\n" in printed


def test_equal_modalities_change_nothing(file):
    old, new = ssl_head(2), ssl_head(2, seed=1)
    report = weights.initialise(new, saved(old, file, UKB), UKB)
    assert report.counts() == {"matched": len(old.state_dict()), "changed": 0, "missing": 0, "unexpected": 0}
    assert all(torch.equal(tensor, old.state_dict()[name]) for name, tensor in new.state_dict().items())


def test_fine_tuning_takes_the_encoder_and_says_what_it_lacks(file):
    old, new = ssl_head(1), swin_unetr(1, seed=1)
    decoder = {name: tensor.clone() for name, tensor in new.state_dict().items() if not name.startswith("swinViT.")}
    report = weights.initialise(new, saved(old, file, ["T1"]), ["T1"])
    encoder = [name for name in old.state_dict() if name.startswith("swinViT.")]
    heads = [name for name in old.state_dict() if not name.startswith("swinViT.")]
    assert report.counts() == {
        "matched": len(encoder),
        "changed": 0,
        "missing": len(decoder),
        "unexpected": len(heads),
    }
    state = new.state_dict()
    assert all(torch.equal(state[name], old.state_dict()[name]) for name in encoder)
    assert all(torch.equal(state[name], tensor) for name, tensor in decoder.items())
    printed = str(report)
    assert "unexpected rotation_head (2), contrastive_head (2), conv (12)" in printed


def test_a_tensor_of_another_shape_is_unused_and_its_place_as_initialised(file):
    old, new = swin_unetr(1, outputs=3), swin_unetr(1, outputs=2, seed=1)
    before = new.state_dict()["out.conv.conv.bias"].clone()
    report = weights.initialise(new, saved(old, file, ["T1"]), ["T1"])
    output = ["out.conv.conv.weight", "out.conv.conv.bias"]
    assert (report.missing, report.unexpected, report.changed) == (output, output, [])
    assert len(report.matched) == len(new.state_dict()) - 2
    assert torch.equal(new.state_dict()["out.conv.conv.bias"], before)


def test_no_weights_are_reported_as_such():
    network = ssl_head(1)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    report = weights.initialise(network, None, ["T1"])
    assert report.source is None
    assert report.counts() == {"matched": 0, "changed": 0, "missing": len(before), "unexpected": 0}
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert "no pretrained weights: every tensor as initialised" in str(report)


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


def untouched(network, state):
    return all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())


def test_an_encoder_of_another_size_is_refused(file):
    network = ssl_head(2, size="tiny")
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    saved(ssl_head(2), file, UKB, model_size="micro")
    with pytest.raises(InputError, match="model_size micro") as error:
        weights.initialise(network, file, UKB)
    assert str(file) in one_line(error)
    assert "--model_size" in str(error.value)
    assert untouched(network, before)


def test_an_encoder_of_another_depth_is_refused(file):
    """Stems fit, but tensors are left over: nothing of it may be loaded in silence."""
    state = ssl_head(2).state_dict()
    first = {name: tensor for name, tensor in state.items() if "layers3.0.blocks.0." in name}
    deeper = {name.replace("blocks.0.", "blocks.1."): tensor for name, tensor in first.items()}
    weights.write({"network": state | deeper, "metadata": {"modalities": UKB, "model_size": "deep"}}, file)
    with pytest.raises(InputError, match=rf"model_size deep\) is not the network's: {len(deeper)} tensors unexpec"):
        weights.initialise(ssl_head(2, seed=1), file, UKB)


def test_a_file_without_the_encoder_is_refused(file):
    heads = {name: tensor for name, tensor in ssl_head(1).state_dict().items() if not name.startswith("swinViT.")}
    weights.write({"network": heads, "metadata": {"modalities": ["T1"]}}, file)
    with pytest.raises(InputError, match=r"its encoder .* tensors missing"):
        weights.initialise(ssl_head(1, seed=1), file, ["T1"])


def test_a_file_of_which_nothing_matches_is_refused(file):
    network = nn.Linear(2, 2)
    saved(nn.Sequential(nn.Linear(2, 2)), file, ["T1"])
    with pytest.raises(InputError, match="none of its tensors is one of the network's") as error:
        weights.initialise(network, file, ["T1"])
    assert str(file) in one_line(error)


def test_a_file_that_does_not_say_its_modalities_names_the_command(file):
    torch.save(ssl_head(1).state_dict(), file)
    with pytest.raises(InputError, match=r"python -m scripts.weights convert FILE --modalities=") as error:
        weights.initialise(ssl_head(1), file, ["T1"])
    assert str(file) in one_line(error)


# Reading


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "network", "model_state_dict"])
def test_every_known_layout_is_read(file, prefix, wrapper):
    state = ssl_head(1).state_dict()
    content = {prefix + name: tensor for name, tensor in state.items()}
    torch.save({"epoch": 3, wrapper: content, "optimizer": {}} if wrapper else content, file)
    read = weights.read(file)
    assert read.metadata == {}
    assert read.state.keys() == state.keys()
    assert all(torch.equal(read.state[name], tensor) for name, tensor in state.items())


def test_module_is_taken_off_the_beginning_alone(file):
    torch.save({"module.a.module.b": torch.zeros(1)}, file)
    assert list(weights.read(file).state) == ["a.module.b"]


def named(*names):
    return {name: torch.full((1,), float(number)) for number, name in enumerate(names)}


@pytest.mark.parametrize("prefix", ["", "module.", "module.module.", "net.backbone.", "_orig_mod.", "student.module."])
@pytest.mark.parametrize("encoder", ["swinViT.", "swin_vit."])
def test_the_encoder_is_found_behind_any_prefix_that_all_names_share(file, prefix, encoder):
    names = ["out.bias", f"{encoder}patch_embed.proj.weight", f"{encoder}layers1.0.blocks.0.norm1.bias"]
    torch.save(named(*(prefix + name for name in names)), file)
    read = weights.read(file)
    assert read.state == named("out.bias", STEM, "swinViT.layers1.0.blocks.0.norm1.bias")
    assert read.layout == weights.Layout(None, [], prefix, encoder, [])


@pytest.mark.parametrize(
    ("given", "here"),
    [
        ("patch_embed.proj.bias", "swinViT.patch_embed.proj.bias"),
        ("layers3.0.blocks.1.mlp.fc1.weight", "swinViT.layers3.0.blocks.1.mlp.linear1.weight"),
        ("layers3.0.blocks.1.mlp.fc2.bias", "swinViT.layers3.0.blocks.1.mlp.linear2.bias"),
        ("layers3.0.0.blocks.1.norm1.bias", "swinViT.layers3.0.blocks.1.norm1.bias"),
        ("layers3.0.blocks.0.norm1.bias", "swinViT.layers3.0.blocks.0.norm1.bias"),
        ("rotation_head.mlp.fc1.weight", "rotation_head.mlp.fc1.weight"),
        ("norms.weight", "norms.weight"),
    ],
)
def test_an_encoder_without_a_name_gets_ours(file, given, here):
    torch.save(named("patch_embed.proj.weight", given), file)
    read = weights.read(file)
    assert read.state == named(STEM, here)
    assert (read.layout.encoder, read.layout.left_out) == ("", [])


def test_what_is_outside_the_encoder_keeps_its_name(file):
    torch.save(named("swin_vit.patch_embed.proj.weight", "norm.weight", "layers1.0.mlp.fc1.bias"), file)
    read = weights.read(file)
    assert read.state == named(STEM, "norm.weight", "layers1.0.mlp.fc1.bias")
    assert read.layout.left_out == []


@pytest.mark.parametrize("name", ["norm.weight", "norm.bias", "mask_token"])
def test_what_has_no_place_in_the_networks_is_left_out_and_named(file, name):
    torch.save({"model": named("encoder.patch_embed.proj.weight", f"encoder.{name}", "out.bias", "decoder1.a")}, file)
    read = weights.read(file)
    assert set(read.state) == {STEM, "decoder1.a"}
    assert read.layout == weights.Layout("model", [], "", "encoder.", [f"encoder.{name}", "out.bias"])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["module.a", "module.b", "c"], "2 tensors begin with module. and 1 do not, first c; expected all or none"),
        (["a", "module.a"], "1 tensors begin with module. and 1 do not, first a; expected all or none"),
        (["net.swinViT.patch_embed.proj.weight", "head.bias"], "1 tensors begin with net. and 1 do not, first head"),
        (
            ["module.patch_embed.proj.weight", "patch_embed.proj.weight"],
            "2 encoders, module.patch_embed.proj.weight, patch_embed.proj.weight; expected one",
        ),
        (
            ["patch_embed.proj.weight", "layers1.0.mlp.fc1.bias", "layers1.0.mlp.linear1.bias"],
            "several of its tensors are swinViT.layers1.0.mlp.linear1.bias; expected one",
        ),
    ],
)
def test_names_that_cannot_be_told_apart_are_refused(file, names, message):
    torch.save({"state_dict": named(*names)}, file)
    with pytest.raises(InputError, match=message) as error:
        weights.read(file)
    assert str(file) in one_line(error)


def test_two_networks_in_a_file_are_refused(file):
    torch.save({"state_dict": named("a"), "model": named("a"), "network": {"depth": 3}}, file)
    with pytest.raises(InputError, match="tensors under state_dict and model; expected one network") as error:
        weights.read(file)
    assert str(file) in one_line(error)


def test_what_is_beside_the_tensors_is_named(file):
    torch.save({"epoch": 3, "metadata": {}, "network": named("a"), "optimizer": {}}, file)
    assert weights.read(file).layout == weights.Layout("network", ["epoch", "optimizer"], "", None, [])
    torch.save(named("module.a") | {"epoch": 3}, file)
    assert weights.read(file).layout == weights.Layout(None, ["epoch"], "module.", None, [])


def test_metadata_is_read(file):
    metadata = {"modalities": UKB, "patch_size": [96, 96, 96], "versions": weights.versions()}
    weights.write({"network": {"a": torch.zeros(1)}, "metadata": metadata}, file)
    assert weights.read(file).metadata == metadata


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


class Harmless:
    pass


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_refused_and_not_run(zipped, file, tmp_path):
    marker = tmp_path / "marker"
    content = {"state_dict": {"a": torch.zeros(1)}, "args": Evil(marker)}
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match="cannot be read as tensors alone") as error:
        weights.read(file)
    assert str(file) in one_line(error)
    assert not marker.exists()
    torch.load(file, weights_only=False)
    assert marker.exists()  # it would have run


@pytest.mark.parametrize("content", [Harmless(), {"state_dict": {}, "args": Harmless()}, nn.Linear(1, 1)])
def test_pickled_objects_are_refused(file, content):
    torch.save(content, file)
    with pytest.raises(InputError, match="cannot be read as tensors alone") as error:
        weights.read(file)
    one_line(error)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no checkpoint at all", b"\x80\x02."])
def test_other_files_are_refused(file, content):
    file.write_bytes(content)
    with pytest.raises(InputError, match="cannot be read as tensors alone") as error:
        weights.read(file)
    assert str(file) in one_line(error)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_file_that_was_cut_off_is_refused(file, share):
    torch.save(ssl_head(1).state_dict(), file)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InputError, match="cannot be read as tensors alone") as error:
        weights.read(file)
    one_line(error)


@pytest.mark.parametrize(("name", "message"), [("nothing.pt", "no such file"), ("", "a folder; expected a file")])
def test_a_missing_file_and_a_folder_are_refused(name, message, tmp_path):
    with pytest.raises(InputError, match=message) as error:
        weights.read(tmp_path / name)
    assert str(tmp_path / name) in one_line(error)


def test_an_empty_file_is_called_so(file):
    file.touch()
    with pytest.raises(InputError, match=r"tensors alone: empty; expected a whole file of torch.save$"):
        weights.read(file)


def test_a_file_that_must_not_be_read_is_called_so(file, monkeypatch):
    file.write_bytes(b"theirs")

    def refuse(*arguments, **options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(torch, "load", refuse)
    with pytest.raises(InputError, match=r"tensors alone: Permission denied; expected a file that you may read$"):
        weights.read(file)


def test_a_safetensors_file_is_refused_with_the_way_to_save_it_again(file):
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    file.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    with pytest.raises(InputError, match=r"safetensors; save with torch.save\(") as error:
        weights.read(file)
    assert f"safetensors.torch.load_file('{file.name}')" in one_line(error)


def test_a_torchscript_file_is_refused_with_the_way_to_save_it_again(file, recwarn):
    torch.jit.save(torch.jit.script(nn.Linear(1, 1)), str(file))
    recwarn.clear()
    with pytest.raises(InputError, match="TorchScript; save with ") as error:
        weights.read(file)
    assert not recwarn.list  # the one line is all that a user sees
    again = file.with_name("G.pt")
    line = one_line(error).split("save with ")[1].replace(file.name, str(file)).replace("G.pt", str(again))
    exec(line, {"torch": torch})
    assert set(weights.read(again).state) == {"weight", "bias"}


@pytest.mark.parametrize("content", [Harmless(), {"state_dict": {}, "args": Harmless()}])
def test_what_a_file_would_unpickle_is_named(file, content):
    torch.save(content, file)
    with pytest.raises(InputError, match=rf"it needs {Harmless.__module__}.Harmless, .* can run any code") as error:
        weights.read(file)
    assert "torch.save({'state_dict': model.state_dict()}, 'G.pt')" in one_line(error)


def test_files_of_old_versions_of_pytorch_are_read(file):
    torch.save({"state_dict": {"module.a": torch.ones(2)}}, file, _use_new_zipfile_serialization=False)
    assert torch.equal(weights.read(file).state["a"], torch.ones(2))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.zeros(2), "holds a Tensor; expected a dictionary of tensors"),
        ([torch.zeros(2)], "holds a list; expected a dictionary of tensors"),
        ({}, "no tensors by name in it, but nothing; expected a state dict"),
        ({"state_dict": {}, "epoch": 4}, "no tensors by name in it, but state_dict, epoch; expected a state dict"),
    ],
)
def test_content_that_is_no_checkpoint_is_refused(file, content, message):
    torch.save(content, file)
    with pytest.raises(InputError, match=message) as error:
        weights.read(file)
    assert str(file) in one_line(error)


# Writing


def test_a_failure_while_writing_leaves_the_file_that_was_there(file, monkeypatch):
    weights.write({"network": {"a": torch.ones(1)}}, file)

    def fail(content, stream):
        stream.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(InputError, match="No space left"):
        weights.write({"network": {"a": torch.zeros(1)}}, file)
    monkeypatch.undo()
    assert weights.read(file).state["a"].item() == 1
    assert list(file.parent.iterdir()) == [file]


def test_a_file_is_never_seen_half_written(file, monkeypatch):
    weights.write({"network": {"a": torch.ones(1)}}, file)
    save = torch.save

    def watch(content, stream):
        save(content, stream)
        assert weights.read(file).state["a"].item() == 1  # the old one is still there, whole

    monkeypatch.setattr(torch, "save", watch)
    weights.write({"network": {"a": torch.zeros(1)}}, file)
    assert weights.read(file).state["a"].item() == 0


def test_a_folder_is_made(tmp_path):
    weights.write({"network": {"a": torch.ones(1)}}, tmp_path / "new" / "models" / "model.pt")
    assert weights.read(tmp_path / "new" / "models" / "model.pt").state["a"].item() == 1


# Restoring


def test_restoring_takes_every_tensor(file):
    old, new = swin_unetr(2), swin_unetr(2, seed=1)
    content = weights.restore(new, saved(old, file, UKB, model_size="micro"), UKB)
    assert content.metadata["model_size"] == "micro"
    assert all(torch.equal(tensor, old.state_dict()[name]) for name, tensor in new.state_dict().items())


@pytest.mark.parametrize("modalities", [["FLAIR", "T1"], ["T1"], ["T1", "T2"]])
def test_restoring_other_modalities_is_refused(file, modalities):
    saved(ssl_head(2), file, UKB)
    with pytest.raises(InputError, match=f"trained with T1, FLAIR; expected {', '.join(modalities)}") as error:
        weights.restore(ssl_head(len(modalities)), file, modalities)
    assert str(file) in one_line(error)


def remove(state):
    del state["rotation_head.bias"]


def add(state):
    state["rotation_head.scale"] = torch.zeros(1)


def widen(state):
    state["rotation_head.bias"] = torch.zeros(5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove, r"rotation_head.bias is absent, expected \[4\]"),
        (add, r"rotation_head.scale is \[1\], expected absent"),
        (widen, r"rotation_head.bias is \[5\], expected \[4\]"),
    ],
)
def test_restoring_into_another_network_is_refused(file, change, message):
    state = dict(ssl_head(1).state_dict())
    change(state)
    weights.write({"network": state, "metadata": {"modalities": ["T1"]}}, file)
    network = ssl_head(1, seed=1)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(InputError, match=f"1 tensors do not fit; first {message}") as error:
        weights.restore(network, file, ["T1"])
    assert str(file) in one_line(error)
    assert untouched(network, before)


def test_versions_are_those_that_run():
    assert weights.versions() == {
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "monai": monai.__version__,
        "ignite": ignite.__version__,
        "numpy": np.__version__,
    }


@pytest.mark.parametrize(
    "content", [{"network": {"w": torch.ones(1)}, "metadata": "hello"}, {"w": torch.ones(1), 3: 4}]
)
def test_odd_files_are_read_for_what_they_hold(tmp_path, content):
    torch.save(content, tmp_path / "odd.pt")
    checkpoint = weights.read(tmp_path / "odd.pt")
    assert list(checkpoint.state) == ["w"]
    assert checkpoint.metadata == {}


def test_weights_that_are_not_finite_are_refused(tmp_path):
    torch.save({"a": torch.ones(2), "b": torch.tensor([1.0, float("nan")])}, tmp_path / "nan.pt")
    with pytest.raises(InputError, match=r"nan.pt: 1 tensors are not finite, first b"):
        weights.read(tmp_path / "nan.pt")


def nested():
    return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])


@pytest.mark.filterwarnings("ignore")  # PyTorch calls several of these kinds experimental
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: torch.ones(2).to(torch.float8_e4m3fn), "float8_e4m3fn"),
        (lambda: torch.ones(2).to(torch.float8_e5m2), "float8_e5m2"),
        (lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), "qint8"),
        (lambda: torch.eye(3).to_sparse(), "sparse_coo"),
        (lambda: torch.eye(3).to_sparse_csr(), "sparse_csr"),
        (nested, "nested"),
        (lambda: torch.ones(2, device="meta"), "meta"),
        (lambda: torch.ones(2, dtype=torch.complex64), "complex64"),
    ],
)
def test_tensors_of_which_nothing_can_be_trained_are_refused(make, kind, file):
    torch.save({"state_dict": {"a": torch.ones(1), "b.weight": make()}}, file)
    with pytest.raises(InputError, match=f"b.weight is a {kind} tensor; expected plain numbers") as error:
        weights.read(file)
    assert str(file) in one_line(error)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool])
def test_tensors_of_plain_numbers_are_read(kind, file):
    torch.save({"a": torch.ones(2, dtype=kind)}, file)
    assert weights.read(file).state["a"].dtype == kind


@pytest.mark.parametrize(
    ("modalities", "shown"),
    [
        (None, "None"),
        (2, "2"),
        ("T1", "'T1'"),
        ([], "[]"),
        (["T1", 2], "['T1', 2]"),
        (torch.eye(2), "tensor([[1., 0.], [0., 1.]])"),
    ],
)
def test_modalities_that_are_no_list_of_names_are_refused(modalities, shown, file):
    saved(ssl_head(1), file, modalities)
    with pytest.raises(InputError) as error:
        weights.initialise(ssl_head(1), file, ["T1"])
    assert one_line(error) == (
        f"checkpoint {file}: metadata's modalities are {shown}; expected a list of names, such as ['T1', 'FLAIR']"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model_size", "$__import__('os').abort()"),
        ("model_size", "{_target_: os.abort}"),
        ("model_size", {"_target_": "os.abort"}),
        ("model_size", "tiny\nimports: [$print()]"),
        ("model_size", "@network"),
        ("label_convention", "%/etc/passwd"),
        ("label_convention", ["atlas"]),
        ("patch_size", "$[64] * 3"),
        ("patch_size", ["$64", 64, 64]),
        ("modalities", ["$__import__('os').abort()"]),
        ("modalities", ["T1\nT2"]),
    ],
)
def test_metadata_that_a_config_would_evaluate_are_refused(name, value, file):
    """Options of an export and of a package come from a checkpoint, which may be a stranger's."""
    saved(ssl_head(1), file, ["T1"])
    content = torch.load(file, weights_only=True)
    torch.save(content | {"metadata": content["metadata"] | {name: value}}, file)
    with pytest.raises(InputError, match=f"metadata's {name} (is|are) .*; expected ") as error:
        weights.read(file)
    assert one_line(error)


def test_modalities_are_read_as_a_list(file):
    saved(ssl_head(2), file, ("T1", "FLAIR"))
    assert weights.read(file).metadata["modalities"] == UKB


@pytest.mark.parametrize("word", ["null", "none", "None"])
def test_a_command_line_can_ask_for_no_weights(word):
    assert weights.initialise(ssl_head(1), word, ["T1"]).source is None


@pytest.mark.parametrize("value", [5, 1.5, True, ["a"], ("a", "b"), {"a": 1}, "", " "])
def test_what_is_no_path_is_refused(value):
    with pytest.raises(InputError) as error:
        weights.initialise(ssl_head(1), value, ["T1"])
    assert one_line(error).startswith(f"--pretrained={value}: expected the path of a file")
    with pytest.raises(InputError) as error:
        weights.load(value)
    assert one_line(error).startswith(f"checkpoint {value}: expected the path of a file")
