"""Window attention, patch merging and residual blocks, compared with MONAI's; compiled blocks with uncompiled ones."""

import copy

import pytest
import torch
from monai.networks.blocks import UnetResBlock
from monai.networks.nets.swin_unetr import BasicLayer, PatchMerging, SwinTransformer, compute_mask
from torch import nn

from common.ssl import layers
from common.ssl.layers import MERGINGS, RecomputedAttention, compile_blocks, set_attention, window_codes
from tests.oracles import merging as oracle

CPU = torch.device("cpu")


def encoder(window=(3, 3, 3), heads=(2, 4, 8, 16)):
    torch.manual_seed(0)
    network = SwinTransformer(1, 16, window, (2, 2, 2), (2, 2, 2, 2), heads, spatial_dims=3)
    for name, parameter in network.named_parameters():
        if "relative_position_bias" in name:
            nn.init.normal_(parameter, std=0.5)  # MONAI begins near zero, where a wrong bias would not show
    return network


def results(network, image):
    """Outputs and parameter gradients of a loss with a different weight for each output voxel."""
    network.zero_grad()
    outputs = network(image)
    weights = [torch.linspace(-1, 1, output.numel()).view(output.shape) for output in outputs]
    sum((weight * output).sum() for weight, output in zip(weights, outputs, strict=True)).backward()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None}
    return {f"output {level}": output.detach() for level, output in enumerate(outputs)} | gradients


@pytest.mark.parametrize("kind", ["recomputed", "fused"])
@pytest.mark.parametrize(
    ("window", "shape", "chunk"),
    [
        ((3, 3, 3), (2, 1, 32, 32, 32), None),  # 16 tokens: the last window is padded
        ((4, 4, 4), (2, 1, 64, 32, 32), None),  # whole windows; other numbers of them along each axis
        ((7, 7, 7), (1, 1, 32, 64, 32), None),  # larger than deeper levels: some axes are not shifted
        ((2, 4, 3), (1, 1, 32, 32, 32), 1),  # scores of one head at a time
        ((3, 3, 3), (1, 1, 32, 32, 32), 6 * 27 * 27 * 4),  # several heads of a window: 6 of 8 at level 3
        ((3, 3, 3), (2, 1, 32, 32, 32), 2**22),  # several windows
    ],
)
def test_outputs_and_gradients_are_those_of_monai(window, shape, chunk, kind, monkeypatch):
    if chunk is not None:
        monkeypatch.setitem(layers.CHUNK, "cpu", chunk)
    network, image = encoder(window).double(), torch.randn(shape).double()
    expected = results(network, image)
    computed = results(set_attention(network, kind), image)
    assert computed.keys() == expected.keys()
    for name, theirs in expected.items():
        assert computed[name].sub(theirs).abs().max() <= 1e-13 * theirs.abs().max(), name


@pytest.mark.parametrize("window", [(2, 3, 4), (3, 3, 3)])
@pytest.mark.parametrize("shift", [(1, 1, 1), (0, 1, 2), (0, 0, 0)])
def test_codes_separate_the_tokens_that_monais_mask_separates(window, shift):
    grid = (3, 1, 2)
    dims = [count * edge for count, edge in zip(grid, window, strict=True)]
    separate = compute_mask(dims, window, shift, CPU) != 0 if all(shift) else None
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        queries, keys = window_codes(grid, window, shift, CPU).to(dtype).double()
        products = queries @ keys.transpose(1, 2)
        if separate is not None:
            assert torch.equal(products != 0, separate)
        neighbours = products[products != 0]
        assert (neighbours * 64**-0.5 <= -64).all(), "with 64 channels"
        assert neighbours.any() == any(shift)


def test_gradients_are_the_same_on_every_run_on_two_threads():
    torch.set_num_threads(2)
    attend = RecomputedAttention(48, num_heads=12, window_size=(7, 7, 7), qkv_bias=True)
    tokens = torch.randn(2, 343, 48)
    gradients = [torch.autograd.grad(attend(tokens, None).square().sum(), attend.parameters()) for _ in range(4)]
    torch.set_num_threads(1)  # as in all tests
    for repeated in gradients[1:]:
        assert all(torch.equal(*pair) for pair in zip(gradients[0], repeated, strict=True))


def test_prediction_is_that_of_monai_and_may_come_before_a_training():
    window_codes.cache_clear()
    network, image = encoder(), torch.randn(1, 1, 32, 32, 32)
    with torch.inference_mode():
        expected = network(image)
        computed = set_attention(network)(image)
    assert all(torch.allclose(ours, theirs, atol=1e-5) for ours, theirs in zip(computed, expected, strict=True))
    assert all(gradient.isfinite().all() for gradient in results(network, image).values())


def test_compiled_blocks_give_outputs_and_gradients_of_uncompiled_ones():
    torch.manual_seed(0)
    swin = BasicLayer(8, 4, 2, (2, 2, 2), [0.0] * 4, qkv_bias=True)
    network = nn.Sequential(UnetResBlock(3, 1, 8, 3, 1, ("instance", {})), swin)
    network, image = set_attention(network, "fused").double(), torch.randn(2, 1, 4, 4, 4).double()
    expected = results(network, image)
    compile_blocks(network, backend="aot_eager")  # which makes no kernels
    computed = results(network, image)
    torch._dynamo.reset()
    assert computed.keys() == expected.keys()
    for name, plain in expected.items():
        torch.testing.assert_close(computed[name], plain, rtol=1e-9, atol=1e-12)


def gradients_of(module, x):
    """The module's output, the input's gradient and the parameters' gradients."""
    x = x.clone().requires_grad_()
    output = module(x)
    output.square().sum().backward()
    return [output.detach(), x.grad, *(parameter.grad for parameter in module.parameters())]


@pytest.mark.parametrize(("merging", "layer"), [*oracle.LAYERS.items(), ("monai_1_5", PatchMerging)])
def test_merging_is_that_of_its_name(merging, layer):
    torch.manual_seed(0)
    expected, ours = layer(3).double(), MERGINGS[merging](3).double()
    nn.init.normal_(expected.norm.weight)
    ours.load_state_dict(expected.state_dict())
    x = torch.randn(2, 4, 6, 8, 3).double()
    torch.testing.assert_close(gradients_of(ours, x), gradients_of(expected, x), rtol=0, atol=0)
    with torch.inference_mode():
        assert torch.equal(ours(x), expected(x))


def test_blocks_of_the_decoder_are_those_of_monai():
    torch.manual_seed(0)
    monai = UnetResBlock(3, 2, 4, kernel_size=3, stride=1, norm_name="instance").double()
    ours, x = set_attention(copy.deepcopy(monai)), torch.randn(2, 2, 4, 6, 8).double()
    torch.testing.assert_close(gradients_of(ours, x), gradients_of(monai, x))
