"""Networks of each architecture: sizes, shapes, gradients."""

import pytest
import torch
from monai.networks.nets import SegResNet

from common.networks import ARCHITECTURES, segmentation_network
from tests.oracles.paper import SEGRESNET_PARAMETERS

EDGE = {"segresnet": 72, "transbts": 72}  # voxels; a multiple of 8 only


def shapes(network):
    return {name: tensor.shape for name, tensor in network.state_dict().items()}


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.usefixtures("without_initialisation")
def test_segresnet_is_the_model_zoos():
    theirs = SegResNet(
        blocks_down=[1, 2, 2, 4], blocks_up=[1, 1, 1], init_filters=16, in_channels=4, out_channels=3, dropout_prob=0.2
    )
    ours = segmentation_network("segresnet", 4, 3)
    assert shapes(ours) == shapes(theirs)
    assert count(ours) == SEGRESNET_PARAMETERS
    assert ours.dropout_prob == 0.2


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_micro_network_maps_windows_to_regions_and_learns_in_each_parameter(architecture):
    torch.manual_seed(0)
    edges = (32, 32, EDGE.get(architecture, 96))
    network = segmentation_network(architecture, 2, 3, "micro", edges)
    assert type(network).__name__.lower() == architecture.removesuffix("_v2").replace("_", "")
    assert count(network) < 5e6
    logits = network(torch.randn(1, 2, *edges))
    assert logits.shape == (1, 3, *edges)
    assert logits.min() < 0
    logits.square().mean().backward()
    learning = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert [name for name, parameter in learning.items() if parameter.grad is None or not parameter.grad.any()] == []


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_regions_start_at_their_prior(architecture):
    torch.manual_seed(0)
    network = segmentation_network(architecture, 1, 2, "micro", [64] * 3, prior=0.01).eval()
    with torch.no_grad():
        probabilities = network(torch.randn(1, 1, 64, 64, 64)).sigmoid()
    assert probabilities.logit().mean((0, 2, 3, 4)).sigmoid().tolist() == pytest.approx([0.01] * 2, rel=1.5)
