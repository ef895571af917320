import pytest
import torch
from monai.networks.nets import SwinUNETR

from common.ssl.networks import SIZES, SSLHead
from tests.oracles.paper import SSL_PARAMETERS, SWIN_UNETR_PARAMETERS


def count(network):
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


@pytest.mark.parametrize(("size", "channels"), [("tiny", 1), ("small", 1), ("base", 1), ("tiny", 4)])
@pytest.mark.usefixtures("without_initialisation")
def test_encoder_and_heads_have_the_papers_number_of_parameters(size, channels):
    assert count(SSLHead(in_channels=channels, model_size=size)) == SSL_PARAMETERS[size, channels]


@pytest.mark.parametrize(("size", "inputs", "outputs"), [("tiny", 4, 3), ("small", 1, 1), ("base", 4, 3)])
@pytest.mark.usefixtures("without_initialisation")
def test_swin_unetr_of_the_settings_has_the_public_number_of_parameters(size, inputs, outputs):
    network = SwinUNETR(in_channels=inputs, out_channels=outputs, **SIZES[size]._asdict())
    assert count(network) == SWIN_UNETR_PARAMETERS[size, inputs, outputs]


def test_the_reconstruction_is_enlarged_as_in_the_public_code():
    network = SSLHead(in_channels=2, model_size="micro")
    assert [layer.align_corners for layer in network.conv if isinstance(layer, torch.nn.Upsample)] == [False] * 5


@pytest.mark.parametrize(("head_tokens", "read"), [("corner", [0, 1]), ("mean", [None, None])])
def test_heads_read_the_first_and_the_second_token_or_the_mean_of_all(head_tokens, read):
    network = SSLHead(in_channels=1, model_size="micro", head_tokens=head_tokens)
    bottleneck = torch.randn(2, 192, 2, 2, 2)
    network.swinViT.forward = lambda image: [None] * 4 + [bottleneck]
    output = network(torch.zeros(2, 1, 64, 64, 64))
    tokens = bottleneck.reshape(2, 192, 8)
    heads = {"rotation": network.rotation_head, "contrastive": network.contrastive_head}
    for (name, head), token in zip(heads.items(), read, strict=True):
        expected = tokens.sum(dim=2) / 8 if token is None else tokens[:, :, token]
        torch.testing.assert_close(output[name], expected @ head.weight.T + head.bias)
