"""Window attention without stored scores, compared with MONAI's, and compiled blocks with uncompiled ones."""

import pytest
import torch
from monai.networks.blocks import UnetResBlock
from monai.networks.nets.swin_unetr import BasicLayer, SwinTransformer, compute_mask
from torch import nn

from common.ssl import attention
from common.ssl.attention import RecomputedAttention, compile_blocks, set_attention, window_codes

CPU = torch.device("cpu")


def encoder(window=(3, 3, 3), heads=(2, 4, 8, 16)):
    torch.manual_seed(0)
    network = SwinTransformer(1, 16, window, (2, 2, 2), (2, 2, 2, 2), heads, spatial_dims=3)
    for name, parameter in network.named_parameters():
        if "relative_position_bias" in name:
            nn.init.normal_(parameter, std=0.5)  # MONAI begins near zero, where a wrong bias would not show
    return network


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


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
        monkeypatch.setitem(attention.CHUNK, "cpu", chunk)
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-13)):
        network, image = encoder(window).to(dtype), torch.randn(shape, dtype=dtype)
        expected = results(network, image)
        computed = results(set_attention(network, kind), image)
        assert computed.keys() == expected.keys()
        for name, theirs in expected.items():
            assert computed[name].sub(theirs).abs().max() <= tolerance * theirs.abs().max(), name


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


def test_gradients_are_the_same_on_every_run_on_two_threads(two_threads):
    attend = RecomputedAttention(48, num_heads=12, window_size=(7, 7, 7), qkv_bias=True)
    tokens = torch.randn(2, 343, 48)
    gradients = [torch.autograd.grad(attend(tokens, None).square().sum(), attend.parameters()) for _ in range(8)]
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


# Compiled blocks; the backend makes no kernels


@pytest.fixture
def nothing_compiled_before():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()


def blocks():
    torch.manual_seed(0)
    swin = BasicLayer(8, 4, 2, (2, 2, 2), [0.0] * 4, qkv_bias=True)
    return nn.Sequential(UnetResBlock(3, 1, 8, 3, 1, ("instance", {})), swin)


def step(net, batches=1):
    """Loss and gradients of accumulated batches."""
    net.zero_grad()
    inputs = torch.randn(batches, 2, 1, 4, 4, 4, generator=torch.Generator().manual_seed(1)).to(next(net.parameters()))
    losses = [net(batch).square().mean() for batch in inputs]
    for loss in losses:
        loss.backward()
    return [loss.detach() for loss in losses] + [parameter.grad for parameter in net.parameters()]


@pytest.mark.usefixtures("nothing_compiled_before")
@pytest.mark.parametrize("kind", [pytest.param("recomputed", marks=pytest.mark.slow), "fused"])
def test_loss_and_gradients_are_those_of_the_uncompiled_network(kind):
    net = set_attention(blocks(), kind).double()  # in which rounding does not depend on the processor's kernels
    expected, names = step(net, batches=2), list(net.state_dict())
    compile_blocks(net, backend="aot_eager")
    for ours, plain in zip(step(net, batches=2), expected, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-12)
    assert list(net.state_dict()) == names
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 3, "blocks shifted or not, and a residual one"
    assert not torch._dynamo.utils.counters["graph_break"]
