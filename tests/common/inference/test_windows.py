"""`common.inference.windows`: MONAI's sliding windows, fewer passes through the network, bfloat16 on a CPU."""

import pytest
import torch
from monai.inferers import SlidingWindowInferer
from torch import nn

from common.errors import InputError
from common.inference.windows import CropInferer, WindowInferer

EDGES = (16, 16, 16)


class Counting(nn.Module):
    """Counts the windows that a network gets; what it returns does not depend on the other windows of a batch."""

    def __init__(self, network):
        super().__init__()
        self.network, self.windows, self.types = network, 0, set()

    def forward(self, image):
        self.windows += len(image)
        result = self.network(image)
        self.types.add(result.dtype)
        return result


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


def test_the_outside_is_that_of_the_network_at_hand(network, image):
    inferer = WindowInferer(EDGES, overlap=0)
    before = infer(inferer, image, network)
    with torch.no_grad():
        network.network[-1].bias += 1
    after = infer(inferer, image, network)
    torch.testing.assert_close(after, before + 1)


def test_one_channel_that_is_empty_does_not_make_a_window_empty(network):
    image = torch.zeros(1, 2, *EDGES)
    image[:, 1] = 1
    empty, one = (infer(WindowInferer(EDGES), each, network) for each in (torch.zeros_like(image), image))
    assert not torch.allclose(empty, one)


@pytest.mark.parametrize("kind", [WindowInferer, CropInferer])
def test_bfloat16_on_a_cpu(network, image, kind):
    network.types.clear()
    arguments = {"roi_size": EDGES, "sw_batch_size": 2, "overlap": 0} if kind is WindowInferer else {}
    exact, half = (infer(kind(**arguments, dtype=dtype), image, network) for dtype in (torch.float32, torch.bfloat16))
    assert network.types == {torch.float32, torch.bfloat16}
    assert half.dtype == torch.float32
    assert not torch.equal(half, exact)
    torch.testing.assert_close(half, exact, rtol=0, atol=0.05)


def test_logits_that_are_not_finite_are_no_label_map(network, image):
    image[0, 1, 5, 5, 20] = float("inf")
    with pytest.raises(InputError, match=r"^the network's output is not finite"):
        WindowInferer(EDGES)(image, network)


class Full(nn.Module):
    """A network on a GPU that has room for some windows."""

    def __init__(self, network, most, error):
        super().__init__()
        self.network, self.most, self.error, self.sizes = network, most, error, []

    def forward(self, windows):
        self.sizes.append(len(windows))
        if len(windows) > self.most:
            raise self.error
        return self.network(windows)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError("CUDA driver error: out of memory"),
    ],
)
def test_batches_are_halved_until_they_fit_and_stay_so(network, image, capsys, error):
    inferer, full = WindowInferer(EDGES, 8, overlap=0), Full(network, 2, error)
    result = infer(inferer, image, full)
    torch.testing.assert_close(result, infer(SlidingWindowInferer(EDGES, overlap=0), image, network), rtol=0, atol=1e-5)
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["the GPU's memory is full; windows at a time: 2 instead of 5"]
    assert full.sizes == [1, 5, 2, 2, 1, 2]
    with pytest.raises(type(error)):
        infer(inferer, image, Full(network, 0, error))
    with pytest.raises(RuntimeError, match="shapes differ"):
        infer(WindowInferer(EDGES, 8, overlap=0), image, Full(network, 2, RuntimeError("shapes differ")))
