"""Kernels and waits of a step, on tensors without values."""

from functools import partial

import pytest
import torch
from ignite.engine import Engine

from common.inference import WindowInferer
from common.ssl import EmbeddingInferer, set_attention, views
from common.ssl.networks import swin_unetr
from common.training import Average
from scripts.benchmark import kernels, step


def test_operations_are_counted_by_their_effect_on_the_device():
    def run():
        x = torch.ones(4, 4).to("meta")  # waits: not from pinned memory
        y = (x.T @ x).relu()[1:].clone()
        torch.ones(3) + 1  # on the host
        y.to("meta", non_blocking=True)  # is there already
        float(y.sum())
        y.cpu()
        torch.ones(1).to("meta", non_blocking=True)

    counted = kernels.count(run)
    assert counted.kernels == {
        "copy to device": 2,
        "aten::mm": 1,
        "aten::relu": 1,
        "aten::clone": 1,
        "aten::sum": 1,
        "copy to host": 1,
    }
    assert counted.waits == {"copy to device": 1, "aten::_local_scalar_dense": 1, "copy to host": 1}


def test_attention_is_one_kernel_and_so_is_its_gradient():
    q = torch.ones(2, 3, 8, 16, device="meta", requires_grad=True)
    bias = torch.ones(1, 3, 8, 8, device="meta", requires_grad=True)
    attention = torch.nn.functional.scaled_dot_product_attention

    counted = kernels.count(lambda: attention(q, q, q, attn_mask=bias).sum().backward())
    assert counted.kernels["aten::_scaled_dot_product_efficient_attention"] == 1
    assert counted.kernels["aten::_scaled_dot_product_efficient_attention_backward"] == 1


@pytest.mark.parametrize("work", step.WORKS)
def test_our_step_has_a_third_fewer_kernels_than_stock_and_waits_once(work):
    stock, ours = (kernels.second_step(work, code, "micro", 64) for code in ("stock", "ours fused"))
    assert 3 * ours.kernels.total() <= 2 * stock.kernels.total()
    assert ours.waits.total() == 1


def test_the_number_of_kernels_does_not_depend_on_the_boxes(monkeypatch):
    totals = set()
    for share in (1e-9, 0.1, 0.9):
        monkeypatch.setattr(views, "LARGEST_SHARE", share)
        batch = {"image": torch.ones(2, 2, 32, 32, 32, device="meta")}
        totals.add(kernels.count(lambda: views.TwoViews()(batch)).kernels.total())  # noqa: B023
    assert len(totals) == 1


def test_an_average_of_the_weights_never_waits():
    network = torch.nn.Linear(4, 4).to("meta")
    average, trainer = Average(network, 0.999), Engine(lambda *_: None)
    average.attach(trainer)
    counted = kernels.count(lambda: trainer.run([0, 0]))
    assert counted.kernels
    assert not counted.waits


def test_an_embedding_waits_as_often_for_many_windows_as_for_one():
    waits = []
    for depth in (32, 96):
        image = torch.zeros(1, 1, 32, 32, depth, device="meta")
        infer = partial(EmbeddingInferer((32, 32, 32)), image, lambda windows: [windows] * 5)
        waits.append(kernels.count(infer).waits.total())
    assert waits == [2, 2]  # for the brain mask, and whether the vectors are finite


def test_inference_waits_three_times_a_volume_however_many_windows_it_has():
    """For the brain mask, the least weight in a window (MONAI), and whether logits are finite."""
    network = torch.nn.Conv3d(1, 1, 3, padding=1).to("meta")
    volumes = torch.zeros(1, 1, 32, 32, 64, device="meta"), torch.zeros(1, 1, 64, 64, 64, device="meta")
    infer = partial(WindowInferer((16, 16, 16), 2), network=network)
    waits = [kernels.count(partial(infer, image)).waits for image in volumes]
    assert [counter.total() for counter in waits] == [3, 3]


def test_a_batch_of_windows_has_a_third_fewer_kernels_than_monais_attention_without_gradients():
    windows, totals = torch.zeros(2, 2, 64, 64, 64, device="meta"), []
    for attention in (None, "fused"):
        network = swin_unetr(2, 2, "micro").to("meta").eval()  # MONAI's `use_flash_attention`
        if attention:
            set_attention(network, attention)
        with torch.no_grad():
            infer = partial(network, windows)
            kernels.count(infer)  # fills caches
            totals.append(kernels.count(infer).kernels.total())
    assert totals[1] <= totals[0] * 2 / 3
