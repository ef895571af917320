"""Each config builds its network with the patch merging of its weights (DIFF-38)."""

import pytest
import torch
from monai.bundle import ConfigParser
from monai.networks.nets.swin_unetr import SwinTransformer

from common.ssl.networks import SIZES
from tests.bundles.workflows import SUPERVISED, config, untrained
from tests.oracles import merging as oracle
from tests.support import BUNDLES, MODALITIES

CONFIGS = [(bundle, name) for bundle in BUNDLES for name in ("train", "inference")]
CONFIGS += [(bundle, "evaluate") for bundle in SUPERVISED]


def encoder(channels, merging):
    """MONAI's encoder with the slices of the oracle."""
    size = SIZES["micro"]
    arguments = {"depths": size.depths, "num_heads": size.num_heads, "downsample": oracle.LAYERS[merging]}
    return SwinTransformer(channels, size.feature_size, (4, 4, 4), (2, 2, 2), **arguments, spatial_dims=3).eval()


@pytest.mark.parametrize(("bundle", "name"), CONFIGS)
def test_the_network_is_that_of_the_weights(bundle, name, tmp_path):
    merging, channels = "monai_1_4", len(MODALITIES[bundle])
    parser = ConfigParser(config(bundle, name))
    parser["model_size"] = "micro"
    parser["pretrained" if name == "train" else "checkpoint"] = untrained(bundle, tmp_path / "a.pt", merging=merging)
    parser.get_parsed_content("imports")
    built = parser.get_parsed_content("network_def").swinViT.eval()
    expected = encoder(channels, merging)
    expected.load_state_dict(built.state_dict())
    image = torch.randn(1, channels, 64, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(built(image), expected(image))
