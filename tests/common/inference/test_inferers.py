"""MONAI's sliding windows, fewer passes through the network, bfloat16 on a CPU; means of networks and mirror images."""

import pytest
import torch
from monai.inferers import SlidingWindowInferer
from torch import nn

from common.errors import InputError
from common.inference.inferers import CropInferer, Ensemble, WindowInferer, ensemble
from tests.support import refused

EDGES = (16, 16, 16)


class Counting(nn.Module):
    """Counts the windows that a network gets."""

    def __init__(self, network):
        super().__init__()
        self.network, self.windows = network, 0

    def forward(self, image):
        self.windows += len(image)
        return self.network(image)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    layers = nn.Conv3d(2, 8, 3, padding=1), nn.InstanceNorm3d(8), nn.LeakyReLU(), nn.Conv3d(8, 3, 3, padding=1)
    return Counting(nn.Sequential(*layers)).eval()


@pytest.fixture
def image():
    """A volume of 2 x 2 x 3 windows, of which the first four and the last one are empty."""
    image = torch.randn(1, 2, 32, 32, 48)
    image[..., :16] = 0
    image[:, :, 16:, 16:, 32:] = 0
    return image


def infer(inferer, image, network):
    network.windows = 0
    with torch.inference_mode():
        return inferer(image, network)


@pytest.mark.parametrize(("batch", "overlap", "mode"), [(1, 0, "constant"), (5, 0, "constant"), (2, 0.5, "gaussian")])
def test_empty_windows_are_computed_once_and_windows_weighted_as_monai_does(network, image, batch, overlap, mode):
    arguments = {"roi_size": EDGES, "sw_batch_size": batch, "overlap": overlap, "mode": mode}
    expected = infer(SlidingWindowInferer(**arguments), image, network)
    assert overlap or network.windows == 12
    torch.testing.assert_close(infer(WindowInferer(**arguments), image, network), expected, rtol=0, atol=1e-5)
    assert overlap or network.windows == 7 + 1


@pytest.mark.parametrize("kind", [WindowInferer, CropInferer])
def test_bfloat16_on_a_cpu(network, image, kind):
    arguments = {"roi_size": EDGES, "sw_batch_size": 2, "overlap": 0} if kind is WindowInferer else {}
    exact, half = (infer(kind(**arguments, dtype=dtype), image, network) for dtype in (torch.float32, torch.bfloat16))
    assert half.dtype == torch.float32
    assert not torch.equal(half, exact)
    torch.testing.assert_close(half, exact, rtol=0, atol=0.05)


def test_logits_that_are_not_finite_are_no_label_map(network, image):
    image[0, 1, 5, 5, 20] = float("inf")
    with pytest.raises(InputError, match=r"^the network's output is not finite"):
        WindowInferer(EDGES)(image, network)


class Full(nn.Module):
    """A network on a GPU that has room for some windows."""

    def __init__(self, network, most):
        super().__init__()
        self.network, self.most, self.sizes = network, most, []

    def forward(self, windows):
        self.sizes.append(len(windows))
        if len(windows) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.network(windows)


def test_batches_are_halved_until_they_fit_and_stay_so(network, image):
    inferer, full = WindowInferer(EDGES, 8, overlap=0), Full(network, 2)
    result = infer(inferer, image, full)
    torch.testing.assert_close(result, infer(SlidingWindowInferer(EDGES, overlap=0), image, network), rtol=0, atol=1e-5)
    assert full.sizes == [1, 5, 2, 2, 1, 2]
    with pytest.raises(torch.OutOfMemoryError):
        infer(inferer, image, Full(network, 0))


class Slope(nn.Module):
    """Not symmetric: a voxel's logit depends on its place and on a weight."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(float(weight)))

    def forward(self, image):
        return image * self.weight * (1 + torch.arange(image[0, 0].numel(), dtype=image.dtype).view(image.shape[2:]))


@pytest.mark.parametrize("flips", [[], [2, 0]])
def test_networks_and_all_combinations_of_mirror_images_are_averaged(flips):
    image, networks = torch.randn(2, 1, 3, 4, 5), [Slope(1), Slope(2), Slope(6)]
    expected = torch.zeros_like(image)
    for number in range(2 ** len(flips)):
        axes = [axis + 2 for place, axis in enumerate(flips) if number >> place & 1]
        expected += sum(torch.flip(network(torch.flip(image, axes)), axes) for network in networks)
    torch.testing.assert_close(Ensemble(networks, flips)(image), expected / 3 / 2 ** len(flips))


def test_a_fold_listed_twice_would_count_twice(tmp_path):
    files = [f"{tmp_path}/{name}.pt" for name in ("fold0", "fold1", "fold0")]
    with refused("checkpoint", files):
        ensemble(nn.Identity(), files, ["T1"])
