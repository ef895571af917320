"""Each config builds its network with the patch merging of its weights (DIFF-38)."""

import pytest
from monai.bundle import ConfigParser

from common.ssl.layers import MERGINGS
from tests.bundles.workflows import SUPERVISED, config, untrained
from tests.support import BUNDLES

CONFIGS = [(bundle, name) for bundle in BUNDLES for name in ("train", "inference")]
CONFIGS += [(bundle, "evaluate") for bundle in SUPERVISED]


@pytest.mark.parametrize(("bundle", "name"), CONFIGS)
def test_the_network_is_that_of_the_weights(bundle, name, tmp_path):
    parser = ConfigParser(config(bundle, name))
    parser["model_size"] = "micro"
    weights = untrained(bundle, tmp_path / "a.pt", merging="monai_1_4")
    parser["pretrained" if name == "train" else "checkpoint"] = weights
    parser.get_parsed_content("imports")
    encoder = parser.get_parsed_content("network_def").swinViT
    levels = (encoder.layers1, encoder.layers2, encoder.layers3, encoder.layers4)
    assert [type(level[0].downsample) for level in levels] == [MERGINGS["monai_1_4"]] * 4
