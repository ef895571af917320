"""The linear probe of a frozen encoder."""

import pytest
import torch
from torch.nn.functional import interpolate

from common import weights
from common.networks import Probe
from common.ssl import SSLHead, swin_unetr

IMAGE = torch.randn(2, 2, 64, 32, 32, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def probe():
    torch.manual_seed(0)
    return Probe(2, 3, "micro").train()


def test_logits_are_a_linear_map_of_the_features_of_each_level_brought_to_the_image(probe):
    with torch.no_grad():
        levels = probe.swinViT(IMAGE)
        expected = torch.zeros(2, 3, 64, 32, 32)
        for head, level in zip(probe.heads, levels, strict=True):
            full = interpolate(level, size=(64, 32, 32), mode="trilinear")
            expected += torch.einsum("rc,bchwd->brhwd", head.weight[..., 0, 0, 0], full) + head.bias.view(3, 1, 1, 1)
        torch.testing.assert_close(probe(IMAGE), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", [lambda: SSLHead(2, "micro"), lambda: swin_unetr(2, 3, "micro")])
def test_it_starts_from_any_encoder(make, tmp_path, probe):
    torch.manual_seed(1)
    source, file = make(), tmp_path / "model.pt"
    metadata = {"modalities": ["T1", "T2"], "model_size": "micro", "merging": "monai_1_5"}
    weights.write({"network": source.state_dict(), "metadata": metadata}, file)
    report = weights.initialise(probe, file, ["T1", "T2"])
    assert report.carried() == {name for name in probe.state_dict() if name.startswith("swinViT.")}
    assert {name.split(".")[0] for name in report.missing} == {"heads"}
    source.eval()
    for ours, theirs in zip(probe.swinViT(IMAGE), source.swinViT(IMAGE), strict=True):
        assert torch.equal(ours, theirs)
