"""Window attention without stored scores, held against MONAI's own."""

from copy import deepcopy

import pytest
import torch
from monai.networks.nets.swin_unetr import SwinTransformer, WindowAttention, compute_mask
from torch import nn

from common.baselines.architectures import segmentation_network
from common.errors import ArgumentError
from common.ssl import attention
from common.ssl.attention import FusedAttention, RecomputedAttention, set_attention, shifted_windows
from common.ssl.networks import SSLHead

CPU = torch.device("cpu")


def encoder(window=(3, 3, 3), heads=(2, 4, 8, 16), **options):
    torch.manual_seed(0)
    network = SwinTransformer(1, 16, window, (2, 2, 2), (2, 2, 2, 2), heads, spatial_dims=3, **options)
    for name, parameter in network.named_parameters():
        if "relative_position_bias" in name:
            nn.init.normal_(parameter, std=0.5)  # MONAI begins near zero, where a wrong bias would not show
    return network


def losses(network, image):
    """Outputs, and the gradient of each parameter, of a loss that weighs each output voxel otherwise."""
    network.zero_grad()
    outputs = network(image)
    weights = [torch.linspace(-1, 1, output.numel()).view(output.shape) for output in outputs]
    sum((weight * output).sum() for weight, output in zip(weights, outputs, strict=True)).backward()
    return [output.detach() for output in outputs], {
        name: parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None
    }


def assert_equal(found, expected, tolerance):
    for ours, theirs in zip(found[0], expected[0], strict=True):
        assert ours.sub(theirs).abs().max() <= tolerance * theirs.abs().max()
    assert found[1].keys() == expected[1].keys()
    for name, theirs in expected[1].items():
        assert found[1][name].sub(theirs).abs().max() <= tolerance * theirs.abs().max(), name


@pytest.mark.parametrize("kind", ["recomputed", "fused"])
@pytest.mark.parametrize(
    ("window", "edges"),
    [
        ((3, 3, 3), (32, 32, 32)),  # 16 tokens: the last window is padded
        ((4, 4, 4), (64, 32, 32)),  # whole windows; other numbers of them along each axis
        ((7, 7, 7), (32, 64, 32)),  # the window is larger than the deeper levels, so that some axes are not shifted
        ((2, 4, 3), (32, 32, 32)),
    ],
)
def test_outputs_and_gradients_are_those_of_monai(window, edges, kind):
    network, image = encoder(window), torch.randn(2, 1, *edges)
    expected = losses(network, image)
    assert_equal(losses(set_attention(network, kind), image), expected, 1e-5)


@pytest.mark.parametrize("size", [1, 6 * 27 * 27 * 4, 2**22])
def test_chunks_of_any_size_give_the_same(size, monkeypatch):
    """One head at a time, several heads of a window (6 of 8 at level 3), several windows."""
    network, image = encoder(), torch.randn(1, 1, 32, 32, 32)
    expected = losses(network, image)
    monkeypatch.setitem(attention.CHUNK, "cpu", size)
    assert_equal(losses(set_attention(network, "recomputed"), image), expected, 1e-5)


def test_a_step_is_the_same_on_every_run():
    network, image = set_attention(encoder(), "recomputed"), torch.randn(2, 1, 32, 32, 32)
    (first, gradients), (second, repeated) = losses(network, image), losses(network, image)
    assert all(map(torch.equal, first, second))
    assert all(torch.equal(gradients[name], repeated[name]) for name in gradients)


@pytest.mark.parametrize(
    ("grid", "window", "shift"),
    [((3, 2, 4), (3, 3, 3), (1, 1, 1)), ((2, 2, 1), (2, 4, 3), (1, 2, 0)), ((1, 1, 1), (5, 5, 5), (2, 2, 2))],
)
def test_masks_are_those_of_monai(grid, window, shift):
    edges = [count * edge for count, edge in zip(grid, window, strict=True)]
    expected = compute_mask(edges, window, shift, CPU)
    found = shifted_windows(grid, window, shift, CPU)
    assert sorted(found.order.tolist()) == list(range(len(expected)))
    assert torch.equal(found.order[found.inverse], torch.arange(len(expected)))
    assert sum(stop - start for start, stop, _ in found.groups) == len(expected)
    for start, stop, mask in found.groups:
        assert all(
            torch.equal(expected[place], expected[0] * 0 if mask is None else mask) for place in found.order[start:stop]
        )


def test_bfloat16_is_as_close_to_float32_as_monais():
    network, image = encoder(), torch.randn(1, 1, 32, 32, 32)
    _, exact = losses(network, image)

    def error(kind):
        with torch.autocast("cpu", torch.bfloat16):
            _, found = losses(set_attention(network, kind), image)
        return {name: float(found[name].sub(exact[name]).norm() / exact[name].norm()) for name in exact}

    stored, ours = error("stored"), error("recomputed")
    assert all(ours[name] < 1.25 * stored[name] + 0.01 for name in exact)


def stored_bytes(network, image):
    """Bytes that autograd keeps for the backward pass."""
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = network(image)
    del outputs
    return sum(kept.values())


def test_scores_are_not_stored():
    """Of a micro network's encoder, whose windows of 64 tokens have small scores."""
    network, image = SSLHead(1, "micro").swinViT, torch.randn(1, 1, 64, 64, 64)
    stored = stored_bytes(network, image)
    attentions = [module for module in network.modules() if isinstance(module, WindowAttention)]
    scores = 4 * sum(
        count * module.num_heads * 64**2 for module, count in zip(attentions, (512, 64, 8, 1), strict=True)
    )
    assert stored_bytes(set_attention(network, "recomputed"), image) < stored - 0.9 * scores


def test_parameters_keep_their_names_and_a_network_can_change_back():
    network = segmentation_network("swin_unetr", 1, 1, "micro")
    before = deepcopy(network.state_dict())
    kinds = [type(module) for module in network.modules()]
    for kind, expected in (("recomputed", RecomputedAttention), ("fused", FusedAttention)):
        assert set_attention(network, kind) is network
        assert {type(module) for module in network.modules() if isinstance(module, WindowAttention)} == {expected}
        assert network.state_dict().keys() == before.keys()
    assert [type(module) for module in set_attention(network, "stored").modules()] == kinds


def test_networks_without_windows_are_left_as_they_are():
    network = segmentation_network("segresnet", 1, 1, "micro")
    kinds = [type(module) for module in network.modules()]
    assert [type(module) for module in set_attention(network, "recomputed").modules()] == kinds


def test_another_word_is_refused():
    with pytest.raises(ArgumentError, match="attention=flash: expected one of stored, recomputed, fused"):
        set_attention(nn.Identity(), "flash")


def test_prediction_is_that_of_monai_and_may_come_before_a_training():
    shifted_windows.cache_clear()
    network, image = encoder(), torch.randn(1, 1, 32, 32, 32)
    with torch.inference_mode():
        expected = network(image)
        found = set_attention(network, "fused")(image)
    assert all(torch.allclose(ours, theirs, atol=1e-5) for ours, theirs in zip(found, expected, strict=True))
    assert losses(network, image)[1]


def test_dropout_of_weights_is_that_of_monai():
    layer, tokens = WindowAttention(16, 4, (3, 3, 3), attn_drop=0.5), torch.randn(5, 27, 16)
    torch.manual_seed(0)
    expected = layer(tokens, None)
    torch.manual_seed(0)
    assert torch.allclose(set_attention(layer, "recomputed")(tokens, None), expected, atol=1e-6)
    assert not torch.allclose(layer.eval()(tokens, None), expected, atol=1e-2)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_trace_holds_the_attention():
    network, image = set_attention(encoder().eval(), "fused"), torch.randn(1, 1, 32, 32, 32)
    with torch.no_grad():
        traced = torch.jit.trace(network, image, check_trace=False)
        expected = network(image + 1)
    assert all(
        torch.allclose(ours, theirs, atol=1e-5) for ours, theirs in zip(traced(image + 1), expected, strict=True)
    )


def test_all_tensors_are_made_on_the_device_of_the_image():
    network = set_attention(encoder(), "recomputed").to("meta")
    assert network(torch.empty(1, 1, 32, 32, 32, device="meta"))[4].shape == (1, 256, 1, 1, 1)
