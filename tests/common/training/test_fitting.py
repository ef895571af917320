import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from common import weights
from common.ssl import set_attention
from common.ssl.networks import swin_unetr
from common.training import fitting
from tests.common.toy import same
from tests.support import refused


def options(**changed):
    defaults = {"batch_size": "auto", "global_batch_size": 24, "modalities": ["T1"], "patch_size": [4, 4, 4]}
    return SimpleNamespace(**defaults | {"device": "cpu", "resume": False} | changed)


def network():
    return nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv3d(2, 1, 1))


@pytest.mark.parametrize(
    ("changed", "processes", "sizes"),
    [
        ({}, 1, [1, 2, 3, 4, 6, 8, 12, 24]),
        ({"loss_weights": [1]}, 2, [2, 3, 4, 6, 12]),  # the contrastive task compares crops
        ({"crops_per_volume": 4}, 3, [4, 8]),
    ],
)
def test_candidates_keep_the_global_batch(changed, processes, sizes):
    assert fitting.candidates(options(**changed), processes) == sizes


def test_a_cpu_takes_the_largest_batch_whose_estimate_fits(monkeypatch):
    weights = 4 * sum(parameter.numel() for parameter in network().parameters())
    for size in (2, 3, 6):
        needed = 4 * weights + size * 768  # weights, gradients, two moments; 768 bytes of activations, as above
        monkeypatch.setattr(fitting, "free_memory", lambda: (needed + 1) / fitting.SHARE)  # noqa: B023
        assert max(fitting._fitting_on_cpu(network(), options(), [1, 2, 3, 4, 6], torch.float32)) == size


def test_a_gpu_takes_the_largest_batch_that_it_has_computed(monkeypatch):
    """The CPU plays a GPU with memory for four crops."""

    class Limited(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers, self.seen = nn.Sequential(nn.BatchNorm3d(1), network()), []

        def forward(self, x):
            self.seen.append(len(x))
            if len(x) > 4:
                raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
            return self.layers(x)

    limited = Limited()
    content = {"network": limited, "dtype": torch.float32, "loss": nn.MSELoss()}
    config = SimpleNamespace(get_resolved_content=content.__getitem__)
    for name in ("reset_peak_memory_stats", "empty_cache", "memory_reserved"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: 0)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda _: 85 if limited.seen[-1] < 4 else 86)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (100, 1000))  # free of total, as others use the GPU, too
    before, state = copy.deepcopy(limited.state_dict()), torch.get_rng_state()
    sizes = fitting.candidates(options(), 1)
    fits = [fitting._fits_on_gpu(config, limited, options(), size, torch.device("cpu")) for size in sizes]
    assert fits == [True] * 3 + [False] * 5
    assert limited.seen == sizes
    assert same(dict(limited.state_dict()), dict(before))
    assert all(parameter.grad is None for parameter in limited.parameters())
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(("edge", "size"), [(96, 2), (128, 1)])
def test_fine_tuning_small_fits_a_gpu_of_11_gib(edge, size):
    """Bfloat16 activations, a tenth more for tensors that autocast keeps in float32, and 16 bytes per weight."""
    tuned = set_attention(swin_unetr(4, 3, "small"), "recomputed")
    weights = sum(parameter.numel() for parameter in tuned.parameters())
    stored = fitting.stored_activations(tuned, (size, 4, edge, edge, edge), torch.bfloat16)
    assert 1.1 * stored + 16 * weights <= fitting.SHARE * 11 * 2**30


@pytest.mark.parametrize("damage", ["no archive", "no settings"])
def test_a_resumed_run_keeps_the_batch_size_of_the_state_that_it_continues(damage, tmp_path, monkeypatch):
    config = SimpleNamespace(resolved_content={})
    monkeypatch.setattr(fitting, "resolver", lambda: config)
    weights.write({"metadata": {"batch_size": 6}}, tmp_path / "iteration-0000001.pt")
    if damage == "no archive":
        (tmp_path / "iteration-0000002.pt").write_bytes(b"x" * 100)
    else:
        weights.write({"network": {}}, tmp_path / "iteration-0000002.pt")
    changed = {"ckpt_dir": str(tmp_path)}
    assert fitting.fitting_batch_size(options(**changed, resume="auto"), None) == 6
    assert config.resolved_content == {"batch_size": 6}
    with refused(text="delete it to continue from iteration-0000001.pt"):
        fitting.fitting_batch_size(options(**changed, resume=True), None)
