"""Networks of each architecture: sizes, shapes, gradients."""

import pytest
import torch
from monai.networks.nets import SegResNet, SwinUNETR

from common.baselines import NETWORKS, TransBTS, segmentation_network
from common.ssl import settings
from tests.oracles.paper import SEGRESNET_PARAMETERS, SWIN_UNETR_PARAMETERS

EDGE = {
    "swin_unetr": 96,
    "swin_unetr_v2": 96,
    "segresnet": 72,
    "transbts": 72,
    "probe": 96,
}  # voxels; its own multiple, no other's


def shapes(network):
    return {name: tensor.shape for name, tensor in network.state_dict().items()}


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.usefixtures("without_initialisation")
def test_version_2_is_monais():
    theirs = SwinUNETR(4, 3, **settings("small")._asdict(), use_v2=True)
    ours = segmentation_network("swin_unetr_v2", 4, 3)
    assert shapes(ours) == shapes(theirs)
    blocks = sum(2 * 27 * (48 * 2**level) ** 2 for level in range(4))  # two convolutions of 3^3 before each level
    assert count(ours) == SWIN_UNETR_PARAMETERS["small", 4, 3] + blocks == 74_652_213


@pytest.mark.usefixtures("without_initialisation")
def test_segresnet_is_the_model_zoos():
    theirs = SegResNet(
        blocks_down=[1, 2, 2, 4], blocks_up=[1, 1, 1], init_filters=16, in_channels=4, out_channels=3, dropout_prob=0.2
    )
    ours = segmentation_network("segresnet", 4, 3)
    assert shapes(ours) == shapes(theirs)
    assert count(ours) == SEGRESNET_PARAMETERS
    assert ours.dropout_prob == 0.2


@pytest.mark.usefixtures("without_initialisation")
def test_transbts_is_its_papers():
    theirs = TransBTS(4, 3, (128, 128, 128), width=16, embedding=512, layers=4, heads=8, hidden=4096)
    assert shapes(segmentation_network("transbts", 4, 3, patch_size=(128, 128, 128))) == shapes(theirs)


@pytest.mark.parametrize("architecture", NETWORKS)
def test_a_micro_network_maps_windows_to_regions_and_learns_in_each_parameter(architecture):
    torch.manual_seed(0)
    edges = (32, 32, EDGE[architecture])
    network = segmentation_network(architecture, 2, 3, "micro", edges)
    assert type(network).__name__ == NETWORKS[architecture]
    assert count(network) < 5e6
    logits = network(torch.randn(1, 2, *edges))
    assert logits.shape == (1, 3, *edges)
    assert logits.min() < 0
    logits.square().mean().backward()
    learning = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert [name for name, parameter in learning.items() if parameter.grad is None or not parameter.grad.any()] == []


@pytest.mark.parametrize("architecture", NETWORKS)
def test_regions_start_at_their_prior(architecture):
    torch.manual_seed(0)
    network = segmentation_network(architecture, 1, 2, "micro", [64] * 3, prior=0.01).eval()
    with torch.no_grad():
        probabilities = network(torch.randn(1, 1, 64, 64, 64)).sigmoid()
    assert probabilities.logit().mean((0, 2, 3, 4)).sigmoid().tolist() == pytest.approx([0.01] * 2, rel=1.5)


def test_activations_of_swin_unetr_are_recomputed_on_demand():
    network = segmentation_network("swin_unetr_v2", 1, 1, "micro", use_checkpoint=True)
    assert network.swinViT.layers1[0].use_checkpoint
    assert not segmentation_network("swin_unetr", 1, 1, "micro").swinViT.layers1[0].use_checkpoint


def test_arguments_of_the_class_reach_it_and_a_size_is_not_overridden_in_silence():
    own = {"dropout_path_rate": 0.4, "attn_drop_rate": 0.2, "norm_name": "batch"}
    network = segmentation_network("swin_unetr", 1, 1, "micro", **own)
    blocks = [block for name, block in network.named_modules() if name.endswith(("blocks.0", "blocks.1"))]
    rates = [getattr(block.drop_path, "drop_prob", 0.0) for block in blocks]
    assert rates == pytest.approx(torch.linspace(0, 0.4, len(rates)).tolist())  # MONAI: from 0 to the rate
    assert {block.attn.attn_drop.p for block in blocks} == {0.2}
    assert isinstance(network.encoder1.layer.norm1, torch.nn.BatchNorm3d)
    assert segmentation_network("segresnet", 1, 1, "micro", dropout_prob=0.1).dropout_prob == 0.1
    wrong = [
        ("swin_unetr", "dropout_pth_rate"),
        ("swin_unetr", "feature_size"),
        ("segresnet", "init_filters"),
        ("transbts", "width"),
    ]
    for architecture, argument in wrong:
        with pytest.raises(TypeError, match=argument):
            segmentation_network(architecture, 1, 1, "micro", **{argument: 24})
