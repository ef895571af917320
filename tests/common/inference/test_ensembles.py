"""`common.inference.ensembles`: means of networks and mirror images, and what is refused."""

import pytest
import torch
from torch import nn

from common.errors import ArgumentError
from common.inference.ensembles import Ensemble, ensemble


class Slope(nn.Module):
    """Not symmetric: a voxel's logit depends on its place and on a weight."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(float(weight)))

    def forward(self, image):
        return image * self.weight * (1 + torch.arange(image[0, 0].numel(), dtype=image.dtype).view(image.shape[2:]))


@pytest.mark.parametrize("flips", [[], [0], [2, 0], [0, 1, 2]])
def test_networks_and_all_combinations_of_mirror_images_are_averaged(flips):
    image, networks = torch.randn(2, 1, 3, 4, 5), [Slope(1), Slope(2), Slope(6)]
    expected = torch.zeros_like(image)
    for number in range(2 ** len(flips)):
        axes = [axis + 2 for place, axis in enumerate(flips) if number >> place & 1]
        expected += sum(torch.flip(network(torch.flip(image, axes)), axes) for network in networks)
    torch.testing.assert_close(Ensemble(networks, flips)(image), expected / 3 / 2 ** len(flips))


def save(path, network):
    torch.save({"network": network.state_dict(), "metadata": {"modalities": ["T1"]}}, path)
    return str(path)


def test_checkpoints_of_folds_are_loaded_each_into_its_own_network(tmp_path, monkeypatch):
    def restore(network, path, modalities, normalization):
        assert (modalities, normalization) == (["T1"], "brain")
        network.load_state_dict(torch.load(path, weights_only=True)["network"])

    monkeypatch.setattr("common.inference.ensembles.weights.restore", restore)
    files = [save(tmp_path / f"{weight}.pt", Slope(weight)) for weight in (1, 5)]
    image = torch.ones(1, 1, 2, 1, 1)
    assert ensemble(Slope(0), files, ["T1"], normalization="brain")(image).flatten().tolist() == [3, 6]
    assert ensemble(Slope(0), files[1], ["T1"], normalization="brain")(image).flatten().tolist() == [5, 10]
    copy = save(tmp_path / "copy.pt", Slope(1))
    with pytest.raises(ArgumentError, match=f"^checkpoint={copy}: has the weights of {files[0]}; an ensemble needs "):
        ensemble(Slope(0), [*files, copy], ["T1"], normalization="brain")
