import copy

import pytest
import torch
from monai.networks.blocks import UnetResBlock
from monai.networks.nets.swin_unetr import PatchMerging
from torch import nn

from common.ssl import set_attention


def results(module, x):
    """The module's output, the input's gradient and the parameters' gradients."""
    x = x.clone().requires_grad_()
    output = module(x)
    output.square().sum().backward()
    return [output.detach(), x.grad, *(parameter.grad for parameter in module.parameters())]


@pytest.mark.parametrize("edges", [(4, 6, 8), (4, 5, 8)])
def test_merging_is_that_of_monai(edges):
    torch.manual_seed(0)
    monai = PatchMerging(3).double()
    nn.init.normal_(monai.norm.weight)
    ours, x = set_attention(nn.Sequential(copy.deepcopy(monai))), torch.randn(2, *edges, 3).double()
    assert type(ours[0]) is not PatchMerging
    torch.testing.assert_close(results(ours, x), results(monai, x))
    with torch.inference_mode():
        assert torch.equal(ours(x), monai(x))


def test_blocks_of_the_decoder_are_those_of_monai():
    torch.manual_seed(0)
    monai = UnetResBlock(3, 2, 4, kernel_size=3, stride=1, norm_name="instance").double()
    ours, x = set_attention(copy.deepcopy(monai)), torch.randn(2, 2, 4, 6, 8).double()
    torch.testing.assert_close(results(ours, x), results(monai, x))
