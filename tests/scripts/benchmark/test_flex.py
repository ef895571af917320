"""FlexAttention computes what MONAI's attention does; on a CPU, without the gradients of queries, keys and values."""

import pytest
import torch

from common.ssl.attention import FusedAttention
from common.ssl.networks import swin_unetr
from scripts.benchmark.flex import FlexAttention, set_flex_attention

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")


@torch.no_grad()
def test_logits_are_those_of_monai():
    torch.manual_seed(0)
    network, window = swin_unetr(2, 3, "micro").eval(), torch.randn(1, 2, 64, 64, 64)
    expected = network(window)
    set_flex_attention(network)
    torch.testing.assert_close(network(window), expected, rtol=1e-4, atol=1e-5)


def test_the_bias_gets_the_gradient_of_fused_attention():
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 5, 3, 64, 16).unbind()
    gradients = []
    for kind in (FlexAttention, FusedAttention):
        bias = torch.linspace(-1, 1, 3 * 64 * 64).view(1, 3, 64, 64).requires_grad_()
        kind(48, 3, (4, 4, 4)).attend(q, k, v, bias).square().sum().backward()
        gradients.append(bias.grad)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)
