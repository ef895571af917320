import copy

import pytest
import torch
from monai.networks.blocks import UnetResBlock
from monai.networks.nets.swin_unetr import PatchMerging
from torch import nn

from common.ssl import set_attention
from common.ssl.layers import MERGINGS
from tests.oracles import merging as oracle


def results(module, x):
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
    torch.testing.assert_close(results(ours, x), results(expected, x), rtol=0, atol=0)
    with torch.inference_mode():
        assert torch.equal(ours(x), expected(x))


def test_blocks_of_the_decoder_are_those_of_monai():
    torch.manual_seed(0)
    monai = UnetResBlock(3, 2, 4, kernel_size=3, stride=1, norm_name="instance").double()
    ours, x = set_attention(copy.deepcopy(monai)), torch.randn(2, 2, 4, 6, 8).double()
    torch.testing.assert_close(results(ours, x), results(monai, x))
