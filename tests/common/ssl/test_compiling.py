"""Compiled blocks compared with uncompiled blocks; the backend makes no kernels."""

import pytest
import torch
from monai.networks.blocks import UnetResBlock
from monai.networks.nets.swin_unetr import BasicLayer
from torch import nn

from common.ssl.attention import compile_blocks, set_attention


@pytest.fixture(autouse=True)
def nothing_compiled_before():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()


def network(**options):
    torch.manual_seed(0)
    swin = BasicLayer(8, 4, 2, (2, 2, 2), [0.0] * 4, qkv_bias=True, **options)
    return nn.Sequential(UnetResBlock(3, 1, 8, 3, 1, ("instance", {})), swin)


def step(net, batches=1):
    """Loss and gradients of accumulated batches."""
    net.zero_grad()
    inputs = torch.randn(batches, 2, 1, 4, 4, 4, generator=torch.Generator().manual_seed(1)).to(next(net.parameters()))
    losses = [net(batch).square().mean() for batch in inputs]
    for loss in losses:
        loss.backward()
    return [loss.detach() for loss in losses] + [parameter.grad for parameter in net.parameters()]


@pytest.mark.parametrize("attention", [pytest.param("recomputed", marks=pytest.mark.slow), "fused"])
def test_loss_and_gradients_are_those_of_the_network_itself(attention):
    net = set_attention(network(), attention).double()  # in which rounding does not depend on the processor's kernels
    expected, names = step(net, batches=2), list(net.state_dict())
    compile_blocks(net, backend="aot_eager")
    for ours, plain in zip(step(net, batches=2), expected, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-12)
    assert list(net.state_dict()) == names
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 3, "blocks shifted or not, and a residual one"
    assert not torch._dynamo.utils.counters["graph_break"]
