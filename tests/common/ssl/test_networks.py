from collections import Counter

import pytest
import torch
from monai.networks.nets import SwinUNETR

from common.errors import InputError
from common.ssl.networks import SSLHead, settings
from tests.oracles.paper import SSL_PARAMETERS, SWIN_UNETR_PARAMETERS


@pytest.fixture
def without_initialisation(monkeypatch):
    """Only shapes matter here: skip drawing 70 million random numbers."""
    for name in ("trunc_normal_", "kaiming_normal_", "kaiming_uniform_", "uniform_", "normal_"):
        monkeypatch.setattr(torch.nn.init, name, lambda tensor, *_, **__: tensor)


def count(network):
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


@pytest.mark.parametrize(("size", "channels"), SSL_PARAMETERS)
@pytest.mark.usefixtures("without_initialisation")
def test_encoder_and_heads_have_the_papers_number_of_parameters(size, channels):
    assert count(SSLHead(in_channels=channels, model_size=size)) == SSL_PARAMETERS[size, channels]


@pytest.mark.parametrize(("size", "inputs", "outputs"), SWIN_UNETR_PARAMETERS)
@pytest.mark.usefixtures("without_initialisation")
def test_swin_unetr_of_the_settings_has_the_public_number_of_parameters(size, inputs, outputs):
    network = SwinUNETR(in_channels=inputs, out_channels=outputs, **settings(size)._asdict())
    assert count(network) == SWIN_UNETR_PARAMETERS[size, inputs, outputs]


@pytest.mark.parametrize(("size", "depth"), [("tiny", 2), ("small", 6), ("base", 18)])
def test_sizes_differ_only_in_the_third_level(size, depth):
    assert settings(size) == ((2, 2, depth, 2), 48, 7, (3, 6, 12, 24))  # paper, Table 2


def test_parameters_are_named_as_in_the_public_weights():
    names = SSLHead(in_channels=2, model_size="micro").state_dict()
    assert {name.split(".")[0] for name in names} == {"swinViT", "rotation_head", "contrastive_head", "conv"}
    convolutions = Counter(name.split(".")[1] for name in names if name.startswith("conv."))
    assert convolutions == {str(place): 2 for place in (0, 4, 8, 12, 16, 20)}  # weight, bias


@pytest.mark.parametrize("size", ["micro", "tiny"])
@pytest.mark.usefixtures("without_initialisation")
def test_the_encoder_equals_that_of_swin_unetr(size):
    ours = SSLHead(in_channels=2, model_size=size).state_dict()
    theirs = SwinUNETR(in_channels=2, out_channels=1, **settings(size)._asdict()).state_dict()
    assert {name: tensor.shape for name, tensor in ours.items() if name.startswith("swinViT.")} == {
        name: tensor.shape for name, tensor in theirs.items() if name.startswith("swinViT.")
    }


@pytest.mark.parametrize("channels", [1, 3])
def test_one_output_per_task(channels):
    network = SSLHead(in_channels=channels, model_size="micro")
    output = network(torch.rand(2, channels, 64, 64, 96))
    assert {name: list(tensor.shape) for name, tensor in output.items()} == {
        "reconstruction": [2, channels, 64, 64, 96],
        "rotation": [2, 4],
        "contrastive": [2, 512],
    }


def test_heads_read_the_first_and_the_second_token():
    network = SSLHead(in_channels=1, model_size="micro").eval()
    bottleneck = torch.randn(2, 192, 2, 2, 2)
    network.swinViT.forward = lambda _: [None, None, None, None, bottleneck]
    output = network(torch.zeros(2, 1, 64, 64, 64))
    first, second = bottleneck[:, :, 0, 0, 0], bottleneck[:, :, 0, 0, 1]
    assert torch.equal(output["rotation"], torch.nn.functional.linear(first, *network.rotation_head.parameters()))
    assert torch.equal(
        output["contrastive"], torch.nn.functional.linear(second, *network.contrastive_head.parameters())
    )


def test_recomputed_activations_change_no_gradient():
    image = torch.rand(1, 1, 64, 64, 64)
    gradients = []
    for use_checkpoint in (False, True):
        torch.manual_seed(0)
        network = SSLHead(in_channels=1, model_size="micro", use_checkpoint=use_checkpoint)
        sum(tensor.square().mean() for tensor in network(image).values()).backward()
        gradients.append(network.swinViT.patch_embed.proj.weight.grad)
    torch.testing.assert_close(*gradients)


def test_unknown_size_is_refused():
    with pytest.raises(InputError, match=r"^model_size=huge: expected one of tiny, small, base, micro"):
        SSLHead(in_channels=1, model_size="huge")


def test_the_network_compiles_as_one_graph_and_keeps_its_names():
    network = SSLHead(2, "micro").eval()
    names, image = list(network.state_dict()), torch.randn(1, 2, 64, 64, 64)
    with torch.no_grad():
        expected = network(image)
        network.compile(backend="eager", fullgraph=True)
        compiled = network(image)
    assert list(network.state_dict()) == names
    assert all(torch.equal(compiled[head], expected[head]) for head in expected)


@pytest.mark.parametrize(("head_tokens", "read"), [("corner", [0, 1]), ("mean", [None, None])])
def test_both_heads_read_the_tokens_that_they_are_told(head_tokens, read):
    network = SSLHead(in_channels=1, model_size="micro", head_tokens=head_tokens)
    bottleneck = torch.randn(2, 192, 2, 2, 2)
    network.swinViT.forward = lambda image: [None] * 4 + [bottleneck]
    output = network(torch.zeros(2, 1, 64, 64, 64))
    tokens = bottleneck.reshape(2, 192, 8)
    for name, head, place in zip(
        ("rotation", "contrastive"), (network.rotation_head, network.contrastive_head), read, strict=True
    ):
        expected = tokens.sum(dim=2) / 8 if place is None else tokens[:, :, place]
        torch.testing.assert_close(output[name], expected @ head.weight.T + head.bias)


def test_a_quarter_turn_does_not_change_what_the_mean_reads():
    network = SSLHead(in_channels=1, model_size="micro", head_tokens="mean")
    bottleneck = torch.randn(1, 192, 2, 2, 2)
    network.swinViT.forward = lambda image: [None] * 4 + [bottleneck]
    before = network(torch.zeros(1, 1, 64, 64, 64))["contrastive"]
    bottleneck = torch.rot90(bottleneck, 1, (2, 3))
    torch.testing.assert_close(network(torch.zeros(1, 1, 64, 64, 64))["contrastive"], before)


def test_other_tokens_are_refused():
    with pytest.raises(InputError, match=r"^head_tokens=first: expected one of corner, mean$"):
        SSLHead(in_channels=1, model_size="micro", head_tokens="first")
