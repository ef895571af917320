"""Masked autoencoding against loops over voxels and MONAI's SwinUNETR."""

import pytest
import torch
from monai.networks.nets import SegResNet, SwinUNETR

from common import weights
from common.networks import pretraining_network, segmentation_network
from common.ssl import SIZES, Contrastive, Masked, Reconstruction, Rotation, SSLHead, SSLLoss, TwoViews
from common.ssl.masked import hidden_blocks

CROPS = {"image": torch.randn(2, 2, 64, 64, 32, generator=torch.Generator().manual_seed(5))}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return SSLHead(2, "micro", tasks=["masked"])


def test_the_input_is_zero_where_it_is_hidden_and_clean_elsewhere():
    """The mask is the same in all channels, and does not change the views of a corrupting task."""
    inputs, targets = TwoViews(seed=1, tasks=[Masked(0.5, 16)])(CROPS)
    hidden = targets["masked"]["hidden"]
    assert hidden.shape == (4, 1, 64, 64, 32)
    assert hidden.float().mean(dim=(1, 2, 3, 4)).tolist() == [0.5] * 4
    blocks = torch.nn.functional.avg_pool3d(hidden.float(), 16)
    assert set(blocks.unique().tolist()) == {0, 1}
    assert not torch.equal(blocks[0], blocks[1])
    assert torch.equal(inputs, torch.where(hidden, 0.0, targets["clean"]))
    assert torch.equal(targets["masked"]["clean"], targets["clean"])
    papers = TwoViews(seed=1)(CROPS)
    both, targets = TwoViews(seed=1, tasks=[Reconstruction(), Masked(0.5, 16)])(CROPS)
    assert torch.equal(both, torch.where(targets["masked"]["hidden"], 0.0, papers[0]))
    assert torch.equal(targets["reconstruction"], papers[1]["clean"])


def expected_loss(prediction, clean, hidden):
    """Squared errors over squared deviations, summed voxel by voxel over all views and channels."""
    errors = deviations = count = 0.0
    for view in range(len(clean)):
        voxels = hidden[view, 0].nonzero().tolist()
        for channel in range(clean.shape[1]):
            values = [clean[view, channel][tuple(voxel)].item() for voxel in voxels]
            guesses = [prediction[view, channel][tuple(voxel)].item() for voxel in voxels]
            mean = sum(values) / len(values)
            errors += sum((guess - value) ** 2 for guess, value in zip(guesses, values, strict=True))
            deviations += sum((value - mean) ** 2 for value in values)
            count += len(values)
    return errors / max(deviations, 0.01 * count)


@pytest.mark.parametrize("scale", [1.0, 0.01])  # the latter has a variance below the least that counts
def test_the_loss_is_the_share_of_the_hidden_variance_that_is_not_explained(scale):
    generator = torch.Generator().manual_seed(2)
    prediction, clean = (scale * torch.randn(3, 2, 4, 4, 4, generator=generator) for _ in range(2))
    hidden = hidden_blocks(3, [4, 4, 4], 0.75, 2, generator, CPU)
    prediction.requires_grad_()
    loss = Masked().loss(prediction, {"clean": clean, "hidden": hidden})
    assert loss.item() == pytest.approx(expected_loss(prediction, clean, hidden), rel=1e-5)
    loss.backward()
    assert torch.equal(prediction.grad != 0, hidden.expand_as(clean))  # hidden voxels only
    means = (clean * hidden).sum(dim=(2, 3, 4), keepdim=True) / hidden.sum(dim=(2, 3, 4), keepdim=True)
    guess = Masked().loss(means.expand_as(clean), {"clean": clean, "hidden": hidden}).item()
    assert guess == pytest.approx(1 if scale == 1 else 0.01, rel=0.2)


def test_the_prediction_is_that_of_swin_unetr_with_these_weights(network):
    whole = SwinUNETR(2, 2, **SIZES["micro"]._asdict(), use_flash_attention=True)
    state = network.state_dict()
    names = {"out.conv.conv.weight": "masked_out.weight", "out.conv.conv.bias": "masked_out.bias"}
    whole.load_state_dict({name: state[names.get(name, name)] for name in whole.state_dict()})
    assert len(whole.state_dict()) == len(state)
    with torch.no_grad():
        assert torch.equal(network(CROPS["image"])["masked"], whole(CROPS["image"]))


def test_the_papers_tasks_start_alike_beside_it_and_each_parameter_learns():
    torch.manual_seed(0)
    papers = SSLHead(2, "micro").state_dict()
    torch.manual_seed(0)
    tasks = [Reconstruction(), Rotation(), Contrastive(), Masked()]
    network = SSLHead(2, "micro", tasks=tasks)
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in papers.items())
    inputs, targets = TwoViews(tasks=tasks)(CROPS)
    SSLLoss(tasks)(network(inputs), targets)["total"].backward()
    assert [name for name, tensor in network.named_parameters() if not tensor.grad.any()] == []


def test_its_output_layer_follows_the_modalities(tmp_path):
    state = SSLHead(2, "micro", tasks=["masked"]).state_dict()
    metadata = {"modalities": ["T1", "T2"], "merging": "monai_1_5"}
    weights.write({"network": state, "metadata": metadata}, tmp_path / "model.pt")
    single = SSLHead(1, "micro", tasks=["masked"])
    weights.initialise(single, tmp_path / "model.pt", ["T2"])
    assert torch.equal(single.masked_out.weight, state["masked_out.weight"][[1]])


def test_segresnet_learns_as_in_a_loop_with_monais_network():
    """Three steps: the loss of each, and the gradients' effect on it, by MONAI's network and this file's mask."""
    torch.manual_seed(0)
    tasks = [Masked(0.75, 8)]
    network = pretraining_network("segresnet", 2, tasks, "micro")
    whole = SegResNet(init_filters=8, in_channels=2, out_channels=2, blocks_down=(1, 1, 1, 1), blocks_up=(1, 1, 1))
    names = {"conv_final.2.conv.weight": "masked_out.weight", "conv_final.2.conv.bias": "masked_out.bias"}
    state = network.state_dict()
    whole.load_state_dict({name: state[names.get(name, name)].clone() for name in whole.state_dict()})
    views, loss = TwoViews(seed=1, tasks=tasks), SSLLoss(tasks)
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.1) for net in (network, whole)]
    for _ in range(3):
        inputs, targets = views(CROPS)
        clean, hidden = targets["clean"], (inputs == 0).all(dim=1, keepdim=True)
        assert hidden.float().mean() == 0.75
        ours = loss(network(inputs), targets)["total"]
        weight = hidden.expand_as(clean).double()
        mean = (clean * weight).sum(dim=(2, 3, 4), keepdim=True) / weight.sum(dim=(2, 3, 4), keepdim=True)
        errors, spread = (((guess - clean) ** 2 * weight).sum() for guess in (whole(clean * ~hidden), mean))
        assert ours.item() == pytest.approx((errors / spread).item(), abs=1e-6)
        for optimizer, value in zip(optimizers, (ours, errors / spread), strict=True):
            optimizer.zero_grad()
            value.backward()
            optimizer.step()


def test_segresnet_gives_fine_tuning_every_tensor_but_the_last_layers(tmp_path):
    """One channel of any sequence supplies the filters of each modality, so that equal images give equal features."""
    pretrained = pretraining_network("segresnet", 1, [Masked()], "micro")
    metadata = {"modalities": ["MR"], "tasks": ["masked"]}
    weights.write({"network": pretrained.state_dict(), "metadata": metadata}, tmp_path / "model.pt")
    network = segmentation_network("segresnet", 4, 1, "micro")
    weights.initialise(network, tmp_path / "model.pt", ["FLAIR", "T1ce", "T1", "T2"])
    image = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        four, one = (net.eval().encode(image.expand(1, net.in_channels, -1, -1, -1)) for net in (network, pretrained))
    torch.testing.assert_close(four[0], one[0])
