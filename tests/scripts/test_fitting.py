"""The memory of a fine-tuning step."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from common.ssl import set_attention
from common.ssl.networks import swin_unetr
from scripts import fitting


def test_a_cpu_takes_the_batches_whose_estimate_fits(monkeypatch):
    network = nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv3d(2, 1, 1))
    weights = 4 * sum(parameter.numel() for parameter in network.parameters())
    needed = 4 * weights + 3 * 768  # weights, gradients, two moments; activations
    monkeypatch.setattr(fitting, "free_memory", lambda: (needed + 1) / fitting.SHARE)
    config = SimpleNamespace(get_resolved_content={"dtype": torch.float32}.get)
    options = SimpleNamespace(device="cpu", modalities=["T1"], patch_size=[4, 4, 4])
    assert fitting.fitting_sizes(config, network, options, [1, 2, 3, 4, 6]) == [1, 2, 3]


@pytest.mark.parametrize(("edge", "size"), [(96, 2), (128, 1)])
def test_fine_tuning_small_fits_a_gpu_of_11_gib(edge, size):
    """Bfloat16 activations, a tenth more for tensors that autocast keeps in float32, and 16 bytes per weight."""
    tuned = set_attention(swin_unetr(4, 3, "small"), "recomputed")
    weights = sum(parameter.numel() for parameter in tuned.parameters())
    stored = fitting.stored_activations(tuned, (size, 4, edge, edge, edge), torch.bfloat16)
    assert 1.1 * stored + 16 * weights <= fitting.SHARE * 11 * 2**30
