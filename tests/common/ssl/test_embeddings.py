"""`common.ssl.embeddings` against a loop over voxels and windows, and changes that must not affect a vector."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import (
    Compose,
    CropForegroundd,
    EnsureChannelFirstd,
    NormalizeIntensityd,
    Orientationd,
    SpatialPadd,
)

from common.ssl.embeddings import EmbeddingInferer
from common.ssl.networks import SSLHead


def pooling(*strides):
    """An encoder without context: each token is the mean of its block, and in a second channel the mean square."""

    def encode(windows):
        both = torch.cat([windows, windows**2], dim=1)
        return [torch.nn.functional.avg_pool3d(both, stride) for stride in strides]

    return encode


def volume(*sides, seed=0):
    """A volume of one channel, zero outside a ball."""
    centre = torch.tensor(sides)[:, None, None, None] / 2
    distance = (((torch.stack(torch.meshgrid(*map(torch.arange, sides), indexing="ij")) + 0.5) - centre) ** 2).sum(0)
    values = torch.rand(sides, generator=torch.Generator().manual_seed(seed)) + 0.1
    return (values * (distance < (min(sides) / 2) ** 2))[None, None]


def starts(side, edge, step):
    """Starts of windows, from the start of a side; the last window touches its end."""
    places = list(range(0, side - edge + 1, step))
    return places if places[-1] == side - edge else [*places, side - edge]


def by_hand(image, edge, step, stride, encode):
    """The mean over foreground voxels of the mean over windows of the features of the voxel's token."""
    sides = image.shape[2:]
    total, voxels = 0, 0
    windows = [(x, y, z) for x in starts(sides[0], edge, step) for y in starts(sides[1], edge, step)
               for z in starts(sides[2], edge, step)]  # fmt: skip
    maps = {
        (x, y, z): encode(image[..., x : x + edge, y : y + edge, z : z + edge])[0][0].double() for x, y, z in windows
    }
    for place in np.argwhere(image[0].numpy().any(axis=0)):
        holding = [corner for corner in windows if all(0 <= p - c < edge for p, c in zip(place, corner, strict=True))]
        tokens = [(place - np.array(corner)) // stride for corner in holding]
        features = [maps[corner][:, x, y, z] for corner, (x, y, z) in zip(holding, tokens, strict=True)]
        total = total + torch.stack(features).mean(dim=0)
        voxels += 1
    return (total / voxels)[None]


@pytest.mark.parametrize(("overlap", "step"), [(0.5, 4), (0.25, 6), (0, 8)])
@pytest.mark.parametrize("batch", [1, 3])
def test_each_brain_voxel_counts_once(overlap, step, batch):
    image = volume(13, 16, 9)
    found = EmbeddingInferer((8, 8, 8), overlap, batch, levels=True)(image, pooling(2, 4))
    assert found.keys() == {"embedding", "level_0", "level_1"}
    for level, stride in enumerate((2, 4)):
        expected = by_hand(image, 8, step, stride, pooling(stride))
        np.testing.assert_allclose(found[f"level_{level}"], expected, rtol=1e-6)
    assert torch.equal(found["embedding"], found["level_1"])
    assert found["embedding"].dtype == torch.float32


def test_only_the_deepest_level_unless_asked():
    assert list(EmbeddingInferer((8, 8, 8))(volume(8, 8, 8), pooling(2, 4))) == ["embedding"]


def test_zero_padding_and_overlap_do_not_change_the_vector_of_an_encoder_without_context():
    image = volume(24, 24, 24)
    expected = EmbeddingInferer((8, 8, 8), overlap=0)(image, pooling(4))["embedding"]
    padded = torch.nn.functional.pad(image, (8, 16, 24, 0, 8, 8))
    for other, overlap in ((image, 0.5), (padded, 0), (padded, 0.5)):
        found = EmbeddingInferer((8, 8, 8), overlap)(other, pooling(4))["embedding"]
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


def test_windows_without_brain_are_not_encoded():
    image = torch.zeros(1, 1, 32, 32, 8)
    image[..., :8, :8, :] = 1
    seen = []

    def encode(windows):
        seen.extend(windows)
        return [windows]

    EmbeddingInferer((8, 8, 8), overlap=0)(image, encode)
    assert len(seen) == 1


def test_background_has_no_weight():
    """Features of the background do not enter the vector."""
    image = volume(16, 16, 16)
    loud = EmbeddingInferer((16, 16, 16))(image, lambda windows: [torch.where(windows == 0, 1e6, windows)])
    np.testing.assert_allclose(loud["embedding"], [[image[image != 0].mean()]], rtol=1e-6)


@pytest.mark.parametrize("image", [torch.zeros(1, 1, 8, 8, 8), torch.ones(2, 1, 8, 8, 8), torch.ones(1, 1, 8, 8, 4)])
def test_empty_several_and_small_volumes_are_refused(image):
    with pytest.raises(ValueError, match="expected"):
        EmbeddingInferer((8, 8, 8))(image, pooling(2))


# A real encoder, with the preprocessing of the bundles


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return SSLHead(in_channels=1, model_size="micro").eval()


def embed(network, array):
    """The vector of a scan's array [x, y, z], prepared as inference.yaml does."""
    prepare = Compose(
        [
            EnsureChannelFirstd("image", channel_dim="no_channel"),
            Orientationd("image", axcodes="RAS", labels=None),
            CropForegroundd("image", source_key="image", allow_smaller=True),
            NormalizeIntensityd("image", nonzero=True, channel_wise=True),
            SpatialPadd("image", spatial_size=(64, 64, 64)),
        ]
    )
    image = prepare({"image": MetaTensor(torch.as_tensor(array), affine=torch.eye(4))})["image"]
    with torch.no_grad():
        return EmbeddingInferer((64, 64, 64), overlap=0)(image[None], network.swinViT, None)["embedding"]


def test_zero_padding_of_a_scan_does_not_change_its_vector_at_all(network):
    scan = volume(60, 66, 50)[0, 0]
    padded = torch.nn.functional.pad(scan, (3, 11, 0, 7, 20, 1))
    expected = embed(network, scan)
    assert expected.shape == (1, 192)
    assert torch.equal(embed(network, padded), expected)  # cropping to the foreground gives the same array
    assert not torch.allclose(embed(network, scan.flip(0)), expected, atol=1e-3)


def test_bfloat16_on_a_cpu_changes_a_vector_within_its_precision(network):
    image = volume(64, 64, 64)
    exact, half = (
        EmbeddingInferer((64, 64, 64), dtype=dtype)(image, network.swinViT)["embedding"]
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert half.dtype == torch.float32
    assert 0 < (half - exact).detach().abs().max() < 0.05 * exact.detach().abs().max()
