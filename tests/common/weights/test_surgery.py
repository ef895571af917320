"""Starting and restoring networks: responses that must stay, and what is refused."""

import pytest
import torch
from monai.networks.nets import SwinUNETR
from torch import nn

from common import weights
from common.baselines import segmentation_network
from common.errors import ArgumentError, InputError
from common.ssl.networks import SSLHead, settings
from tests.support import one_line

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


def respond(network, image):
    with torch.no_grad():
        return network(image)


def spread(image, places, channels):
    """An image with `channels` channels: the given ones at `places`, the others zero."""
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
def test_the_response_to_known_modalities_stays_where_new_ones_are_zero(file, known, wanted, places):
    old, new = ssl_head(len(known)), ssl_head(len(wanted), seed=1)
    weights.initialise(new, saved(old, file, known), wanted)
    image = torch.randn(1, len(known), 64, 64, 64)
    before, after = respond(old, image), respond(new, spread(image, places, len(wanted)))
    for task in ("rotation", "contrastive"):
        torch.testing.assert_close(after[task], before[task], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(after["reconstruction"][:, places], before["reconstruction"], rtol=1e-4, atol=1e-4)


def test_a_dropped_modality_counts_as_zero(file):
    old, new = ssl_head(2), ssl_head(1, seed=1)
    weights.initialise(new, saved(old, file, UKB), ["FLAIR"])
    image = torch.randn(1, 1, 64, 64, 64)
    before, after = respond(old, spread(image, [1], 2)), respond(new, image)
    torch.testing.assert_close(after["rotation"], before["rotation"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(after["reconstruction"], before["reconstruction"][:, 1:], rtol=1e-4, atol=1e-4)


def test_one_modality_in_two_channels_gives_the_response_to_one(file):
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


def test_one_modality_from_two_channels_gives_the_response_to_two(file):
    old, new = ssl_head(2), ssl_head(1, seed=1)
    weights.initialise(new, saved(old, file, ["T1", "T1"]), ["T1"])
    image = torch.randn(1, 1, 64, 64, 64)
    before, after = respond(old, image.repeat(1, 2, 1, 1, 1)), respond(new, image)
    torch.testing.assert_close(after["rotation"], before["rotation"], rtol=1e-4, atol=1e-4)
    average = before["reconstruction"].mean(dim=1, keepdim=True)
    torch.testing.assert_close(after["reconstruction"], average, rtol=1e-4, atol=1e-4)


def test_swin_unetr_responds_to_known_modalities_as_before(file):
    old, new = swin_unetr(2, outputs=3), swin_unetr(4, outputs=3, seed=1)
    report = weights.initialise(new, saved(old, file, UKB), BRATS)
    image = torch.randn(1, 2, 64, 64, 64)
    torch.testing.assert_close(respond(new, spread(image, [2, 0], 4)), respond(old, image), rtol=1e-4, atol=1e-4)
    changed = {line.split(":")[0] for line in report.changed}
    assert changed == {STEM, "encoder1.layer.conv1.conv.weight", "encoder1.layer.conv3.conv.weight"}
    assert not report.missing
    assert not report.unexpected


def test_without_any_known_modality_the_stem_is_initialised(file):
    old, new = ssl_head(2), ssl_head(1, seed=1)
    weights.initialise(new, saved(old, file, UKB), ["CT"])
    stem, given = new.state_dict()[STEM], old.state_dict()[STEM]
    assert not any(torch.equal(stem[:, 0], given[:, channel]) for channel in (0, 1))
    assert stem.std() > 0
    assert torch.equal(new.state_dict()["rotation_head.weight"], old.state_dict()["rotation_head.weight"])


# New modalities: expected deviations are sqrt(2 / fan) of He et al., ICCV 2015, with fans counted by hand


@pytest.mark.parametrize("new", [["T1ce"], ["T1ce", "T2"], ["T1ce", "T2", "PD", "DWI", "SWI"]])
@pytest.mark.parametrize(("new_channel_init", "fan"), [("fan_out", 600 * 27), ("fan_in", 27)])
def test_new_filters_have_the_deviation_of_kaiming(new, new_channel_init, fan):
    wanted = ["FLAIR", *new, "T1"]
    given = torch.randn(600, 2, 3, 3, 3)
    initial = torch.full((600, len(wanted), 3, 3, 3), 7.0)
    result = weights.transfer(given, initial, 1, UKB, wanted, new_channel_init=new_channel_init)
    fan *= len(wanted) if new_channel_init == "fan_in" else 1
    for channel in range(1, len(wanted) - 1):
        assert result[:, channel].std().item() == pytest.approx((2 / fan) ** 0.5, rel=0.03)
        assert result[:, channel].mean().item() == pytest.approx(0, abs=0.05 * (2 / fan) ** 0.5)
    assert torch.equal(result[:, -1], given[:, 0])
    assert torch.equal(result[:, 0], given[:, 1])
    assert (initial == 7).all()


def test_new_filters_of_the_paper_have_the_deviation_of_its_code(file):
    """0.072 for 48 filters of 2 x 2 x 2 voxels, whichever modalities there are."""
    old, new = ssl_head(2, size="tiny"), ssl_head(4, seed=1, size="tiny")
    weights.initialise(new, saved(old, file, UKB), BRATS)
    assert new.state_dict()[STEM][:, [1, 3]].std().item() == pytest.approx(0.0722, rel=0.1)


def test_new_outputs_keep_their_initial_values_by_fan_out_and_have_the_deviation_of_kaiming_by_fan_in():
    given, initial = torch.randn(2, 48, 1, 1, 1), torch.full((600, 48, 1, 1, 1), 7.0)
    wanted = ["FLAIR", *(f"new{i}" for i in range(598)), "T1"]
    kept = weights.transfer(given, initial, 0, UKB, wanted)
    drawn = weights.transfer(given, initial, 0, UKB, wanted, new_channel_init="fan_in")
    assert (kept[1:-1] == 7).all()
    assert drawn[1:-1].std().item() == pytest.approx((2 / 48) ** 0.5, rel=0.03)
    for result in (kept, drawn):
        assert torch.equal(result[[-1, 0]], given)


@pytest.mark.parametrize("new_channel_init", ["fan_out", "fan_in"])
def test_only_new_filters_are_drawn(file, new_channel_init):
    old, new = swin_unetr(2), swin_unetr(4, seed=1)
    weights.initialise(new, saved(old, file, UKB), BRATS, new_channel_init)
    for name, tensor in new.state_dict().items():
        before = old.state_dict()[name]
        if name in {STEM, "encoder1.layer.conv1.conv.weight", "encoder1.layer.conv3.conv.weight"}:
            fan = tensor[0, 0].numel() * (len(tensor) if new_channel_init == "fan_out" else 4)
            assert tensor[:, [1, 3]].std().item() == pytest.approx((2 / fan) ** 0.5, rel=0.3)  # of few numbers
            tensor = tensor[:, [2, 0]]
        assert torch.equal(tensor, before)


def test_both_fans_leave_the_same_random_numbers_to_what_follows():
    def next_number(new_channel_init):
        torch.manual_seed(0)
        weights.transfer(torch.ones(5, 2, 2, 2, 2), torch.ones(5, 4, 2, 2, 2), 1, UKB, BRATS, "", new_channel_init)
        return torch.rand(1).item()

    assert next_number("fan_out") == next_number("fan_in")


# Aliases


@pytest.mark.parametrize(
    ("known", "wanted", "aliases", "places"),
    [
        (UKB, ["T1", "T2"], {"T2": "FLAIR"}, [0, 1]),  # the paper's code for two modalities of BraTS
        (UKB, ["T2", "T1"], {"T2": "FLAIR"}, [1, 0]),
        (UKB, ["T2", "T1ce"], {"T2": "FLAIR", "T1ce": "T1"}, [1, 0]),
        (["FLAIR"], ["T2"], {"T2": "FLAIR"}, [0]),
        (UKB, ["PD", "T2", "T1"], {"T2": "FLAIR"}, [2, 1]),
    ],
)
def test_an_alias_gives_the_response_of_the_modality_that_it_stands_for(file, known, wanted, aliases, places):
    old, new = ssl_head(len(known)), ssl_head(len(wanted), seed=1)
    report = weights.initialise(new, saved(old, file, known), wanted, modality_aliases=aliases)
    image = torch.randn(1, len(known), 64, 64, 64)
    before, after = respond(old, image), respond(new, spread(image, places, len(wanted)))
    for task in ("rotation", "contrastive"):
        torch.testing.assert_close(after[task], before[task], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(after["reconstruction"][:, places], before["reconstruction"], rtol=1e-4, atol=1e-4)
    for modality, source in aliases.items():
        assert f"\n  alias      {modality} takes {source}'s filters" in "\n".join(report.lines())
    if known != [aliases.get(modality, modality) for modality in wanted]:
        assert f"{STEM}: {', '.join(known)} -> {', '.join(wanted)}" in report.changed


def test_without_the_alias_the_filters_are_lost(file):
    old, new = ssl_head(2), ssl_head(2, seed=1)
    report = weights.initialise(new, saved(old, file, UKB), ["T1", "T2"])
    given = old.state_dict()[STEM][:, 1]
    assert not torch.equal(new.state_dict()[STEM][:, 1], given)
    assert "takes" not in "\n".join(report.lines())
    weights.initialise(new, file, ["T1", "T2"], modality_aliases={"T2": "FLAIR"})
    assert torch.equal(new.state_dict()[STEM][:, 1], given)


def test_an_alias_beside_the_modality_itself_counts_as_the_modality_twice(file):
    old, new = ssl_head(2), ssl_head(3, seed=1)
    weights.initialise(new, saved(old, file, UKB), ["T1", "T2", "FLAIR"], modality_aliases={"T2": "FLAIR"})
    given = old.state_dict()[STEM]
    assert torch.equal(new.state_dict()[STEM], torch.stack([given[:, 0], given[:, 1] / 2, given[:, 1] / 2], dim=1))


@pytest.mark.parametrize(
    ("modalities", "aliases", "problem"),
    [
        (["T1"], {"T2": "FLAIR"}, "T2 is not in modalities; expected T1"),
        (["T1", "T2"], {"T2": "PD"}, "checkpoint FILE has no filters of PD; expected T1 or FLAIR"),
        (
            ["T1", "FLAIR"],
            {"FLAIR": "T1"},
            "checkpoint FILE has filters of FLAIR itself; expected a modality that it l",
        ),
        (["T1", "FLAIR"], {"FLAIR": "FLAIR"}, "checkpoint FILE has filters of FLAIR itself; expected"),
    ],
)
def test_aliases_that_cannot_be_are_refused(file, modalities, aliases, problem):
    saved(ssl_head(2), file, UKB)
    network = ssl_head(len(modalities), seed=1)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(ArgumentError) as error:
        weights.initialise(network, file, modalities, modality_aliases=aliases)
    assert one_line(error).startswith(f"modality_aliases={aliases}: {problem.replace('FILE', str(file))}")
    assert untouched(network, before)


# Shares of the response


def simulated_shares(weight, axis):
    """Variances of a convolution's outputs where one input channel is noise, or of each output, in all of them."""
    image = torch.randn(2, weight.shape[1], 96, 96, 96)
    if axis == 0:
        return torch.nn.functional.conv3d(image, weight).var(dim=(0, 2, 3, 4))
    alone = [torch.zeros_like(image).index_copy_(1, torch.tensor([i]), image[:, [i]]) for i in range(image.shape[1])]
    edge = weight.shape[-1]
    return torch.stack(
        [torch.nn.functional.conv3d(one, weight, stride=edge).var(dim=(0, 2, 3, 4)).sum() for one in alone]
    )


@pytest.mark.parametrize(("axis", "shape"), [(1, (48, 4, 2, 2, 2)), (1, (8, 3, 1, 1, 1)), (0, (4, 48, 1, 1, 1))])
def test_shares_are_those_of_the_variance_of_the_output(axis, shape):
    torch.manual_seed(0)
    weight = torch.randn(shape) * torch.linspace(0.1, 1, shape[axis]).view(-1, *[1] * (4 - axis))
    expected = simulated_shares(weight, axis)
    expected = (expected / expected.sum()).tolist()
    assert weights.response_shares(weight, axis) == pytest.approx(expected, abs=0.01)


def test_shares_of_a_layer_without_weights_are_zero():
    assert weights.response_shares(torch.zeros(2, 3, 1, 1, 1), axis=1) == [0, 0, 0]


@pytest.mark.parametrize(("new_channel_init", "new"), [("fan_out", 0.19), ("fan_in", 0.74)])
def test_new_modalities_have_these_shares_after_the_surgery_from_2_to_4(file, new_channel_init, new):
    """Kept filters of deviation 0.148; 0.072^2 and 0.25^2 over their sums with 0.148^2."""
    old, network = ssl_head(2, size="tiny"), ssl_head(4, seed=1, size="tiny")
    filters = torch.randn(old.state_dict()[STEM].shape)
    old.swinViT.patch_embed.proj.weight.data = 0.148 * filters / filters.std()
    report = weights.initialise(network, saved(old, file, UKB), BRATS, new_channel_init)
    assert report.shares.keys() == {STEM, "conv.20.weight"}
    flair, t1ce, t1, t2 = report.shares[STEM]
    assert t1ce + t2 == pytest.approx(new, abs=0.03)
    assert flair + t1 == pytest.approx(1 - new, abs=0.03)
    line = next(line for line in "\n".join(report.lines()).splitlines() if line.startswith(f"  response   {STEM}: "))
    assert line.endswith(f": FLAIR {flair:.0%}, T1ce {t1ce:.0%}, T1 {t1:.0%}, T2 {t2:.0%}")


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
    printed = "\n".join(report.lines())
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
    printed = "\n".join(report.lines())
    assert "unexpected rotation_head (2), contrastive_head (2), conv (12)" in printed


def test_a_tensor_of_another_shape_is_ignored(file):
    old, new = swin_unetr(1, outputs=3), swin_unetr(1, outputs=2, seed=1)
    before = new.state_dict()["out.conv.conv.bias"].clone()
    report = weights.initialise(new, saved(old, file, ["T1"]), ["T1"])
    output = ["out.conv.conv.weight", "out.conv.conv.bias"]
    assert (report.missing, report.unexpected, report.changed) == (output, output, [])
    assert len(report.matched) == len(new.state_dict()) - 2
    assert torch.equal(new.state_dict()["out.conv.conv.bias"], before)


def test_the_report_says_that_there_are_no_weights():
    network = ssl_head(1)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    report = weights.initialise(network, None, ["T1"])
    assert report.source is None
    assert report.counts() == {"matched": 0, "changed": 0, "missing": len(before), "unexpected": 0}
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert report.lines() == [f"weights: from scratch: all {len(before)} tensors keep their initial values"]


def untouched(network, state):
    return all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())


def test_an_encoder_of_another_size_is_refused(file):
    network = ssl_head(2, size="tiny")
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    saved(ssl_head(2), file, UKB, model_size="micro")
    with pytest.raises(InputError, match="model_size micro") as error:
        weights.initialise(network, file, UKB)
    assert str(file) in one_line(error)
    assert "; expected the same model_size" in str(error.value)
    assert untouched(network, before)


def test_an_encoder_of_another_depth_is_refused(file):
    """The stems fit, but tensors are left over: nothing may be loaded silently."""
    state = ssl_head(2).state_dict()
    first = {name: tensor for name, tensor in state.items() if "layers3.0.blocks.0." in name}
    deeper = {name.replace("blocks.0.", "blocks.1."): tensor for name, tensor in first.items()}
    weights.write({"network": state | deeper, "metadata": {"modalities": UKB, "model_size": "deep"}}, file)
    with pytest.raises(InputError, match=rf"model_size deep\) differs from the network's: {len(deeper)} tensors unexp"):
        weights.initialise(ssl_head(2, seed=1), file, UKB)


def test_a_file_without_the_encoder_is_refused(file):
    heads = {name: tensor for name, tensor in ssl_head(1).state_dict().items() if not name.startswith("swinViT.")}
    weights.write({"network": heads, "metadata": {"modalities": ["T1"]}}, file)
    with pytest.raises(InputError, match=r"its encoder .* tensors missing"):
        weights.initialise(ssl_head(1, seed=1), file, ["T1"])


def test_the_second_version_takes_the_encoder_of_the_first_and_draws_its_own_blocks(file):
    torch.manual_seed(1)
    network = SwinUNETR(in_channels=2, out_channels=1, **settings("micro")._asdict(), use_v2=True)
    blocks = {name for name in network.state_dict() if name.startswith("swinViT.layers") and name[15:17] == "c."}
    assert len(blocks) == 8
    report = weights.initialise(network, saved(ssl_head(2), file, UKB), UKB)
    encoder = {name for name in network.state_dict() if name.startswith("swinViT.")}
    assert set(report.matched) == encoder - blocks
    assert blocks <= set(report.missing)


def test_the_second_version_takes_no_encoder_that_lacks_other_tensors(file):
    network = SwinUNETR(in_channels=2, out_channels=1, **settings("micro")._asdict(), use_v2=True)
    deeper = SSLHead(in_channels=2, model_size="micro")
    state = {name: tensor for name, tensor in deeper.state_dict().items() if "layers3.0.blocks.0.attn" not in name}
    weights.write({"network": state, "metadata": {"modalities": UKB}}, file)
    with pytest.raises(InputError, match=r"its encoder .* tensors missing"):
        weights.initialise(network, file, UKB)


@pytest.mark.parametrize("lacking", [1, 8])
def test_blocks_of_the_second_version_are_taken_or_left_together(file, lacking):
    """Some of them in a file, or all of them for a network of the first version, are another encoder."""
    second = SwinUNETR(in_channels=2, out_channels=1, **settings("micro")._asdict(), use_v2=True)
    state = second.state_dict()
    for name in [name for name in state if name[15:17] == "c."][: lacking % 8]:
        del state[name]
    weights.write({"network": state, "metadata": {"modalities": UKB}}, file)
    network = second if lacking == 1 else swin_unetr(2)
    with pytest.raises(InputError, match=r"its encoder .* tensors (missing|unexpected)"):
        weights.initialise(network, file, UKB)


@pytest.mark.parametrize(
    ("architecture", "first"), [("segresnet", "convInit.conv.weight"), ("transbts", "first.weight")]
)
def test_a_first_layer_of_a_baseline_keeps_the_filters_of_known_modalities(file, architecture, first):
    old, new = (segmentation_network(architecture, count, 1, "micro", (64, 64, 64)) for count in (2, 4))
    report = weights.initialise(new, saved(old, file, UKB), BRATS)
    assert [line.split(":")[0] for line in report.changed] == [first]
    assert report.missing == report.unexpected == []
    given, fitted = old.state_dict()[first], new.state_dict()[first]
    assert torch.equal(fitted[:, [2, 0]], given)


def test_a_file_without_any_matching_tensor_is_refused(file):
    network = nn.Linear(2, 2)
    saved(nn.Sequential(nn.Linear(2, 2)), file, ["T1"])
    with pytest.raises(InputError, match="has no tensor in common with the network") as error:
        weights.initialise(network, file, ["T1"])
    assert str(file) in one_line(error)


def test_without_modalities_the_error_names_the_command_that_adds_them(file):
    torch.save(ssl_head(1).state_dict(), file)
    with pytest.raises(InputError, match=r"python -m scripts.weights convert FILE --modalities=") as error:
        weights.initialise(ssl_head(1), file, ["T1"])
    assert str(file) in one_line(error)


@pytest.mark.parametrize("value", [5, 1.5, True, ["a"], ("a", "b"), {"a": 1}, "", " "])
def test_other_values_than_paths_are_refused(value):
    with pytest.raises(ArgumentError) as error:
        weights.initialise(ssl_head(1), value, ["T1"])
    assert one_line(error).startswith(f"pretrained={value}: expected the path of a file")


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


def test_restoring_weights_for_images_of_another_normalization_is_refused(file, capsys):
    saved(ssl_head(2), file, UKB, normalization="nonzero")
    network = ssl_head(2, seed=1)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(InputError, match="normalization=nonzero; expected that instead of brain") as error:
        weights.restore(network, file, UKB, "brain")
    assert str(file) in one_line(error)
    assert untouched(network, before)
    weights.restore(network, file, UKB, "nonzero")
    assert capsys.readouterr().out == ""


def test_a_checkpoint_that_does_not_name_its_normalization_is_reported(file, capsys):
    saved(ssl_head(2), file, UKB)
    weights.restore(ssl_head(2), file, UKB, "brain")
    expected = f"checkpoint {file}: does not name its normalization; assuming brain\n"
    assert capsys.readouterr().out == expected


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
