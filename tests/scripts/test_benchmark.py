"""`scripts.benchmark`: its variants, its figures, and the kernels and waits of a step, on tensors without values."""

from functools import partial

import pytest
import torch
from ignite.engine import Engine

from common.inference import WindowInferer
from common.ssl import EmbeddingInferer, set_attention, views
from common.ssl.networks import swin_unetr
from common.training import Average
from scripts.benchmark import WORKS, case, count, one_step


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr("scripts.benchmark.SIZE", "micro")
    monkeypatch.setattr("scripts.benchmark.EDGE", 64)


def test_operations_are_counted_by_their_effect_on_the_device():
    def run():
        x = torch.ones(4, 4).to("meta")  # waits: not from pinned memory
        y = (x.T @ x).relu()[1:].clone()
        torch.ones(3) + 1  # on the host
        y.to("meta", non_blocking=True)  # is there already
        float(y.sum())
        y.cpu()
        torch.ones(1).to("meta", non_blocking=True)

    assert count(run) == (7, 3), "two copies to the device, mm, relu, clone, sum, a copy to the host; copy, float, copy"


def test_attention_is_one_kernel_and_so_is_its_gradient():
    q = torch.ones(2, 3, 8, 16, device="meta", requires_grad=True)
    bias = torch.ones(1, 3, 8, 8, device="meta")
    attention = partial(torch.nn.functional.scaled_dot_product_attention, q, q, q, attn_mask=bias)
    forward, _ = count(attention)
    assert forward == 1


@pytest.mark.parametrize("work", WORKS)
def test_our_step_has_a_third_fewer_kernels_than_stock_and_waits_once(work, small):
    stock, ours = (count(one_step(work, code, "meta")) for code in ("stock", "ours fused"))
    assert 3 * ours[0] <= 2 * stock[0]
    assert ours[1] == 1


def test_the_number_of_kernels_does_not_depend_on_the_boxes(monkeypatch):
    totals = set()
    for share in (1e-9, 0.1, 0.9):
        monkeypatch.setattr(views, "LARGEST_SHARE", share)
        batch = {"image": torch.ones(2, 2, 32, 32, 32, device="meta")}
        totals.add(count(lambda: views.TwoViews()(batch)))  # noqa: B023
    assert len(totals) == 1


def test_an_average_of_the_weights_never_waits():
    network = torch.nn.Linear(4, 4).to("meta")
    average, trainer = Average(network, 0.999), Engine(lambda *_: None)
    average.attach(trainer)
    kernels, waits = count(lambda: trainer.run([0, 0]))
    assert kernels
    assert not waits


def test_an_embedding_waits_as_often_for_many_windows_as_for_one():
    waits = []
    for depth in (32, 96):
        image = torch.zeros(1, 1, 32, 32, depth, device="meta")
        waits.append(count(partial(EmbeddingInferer((32, 32, 32)), image, lambda windows: [windows] * 5))[1])
    assert waits == [2, 2]  # for the brain mask, and whether the vectors are finite


def test_inference_waits_three_times_a_volume_however_many_windows_it_has():
    """For the brain mask, the least weight in a window (MONAI), and whether logits are finite."""
    network = torch.nn.Conv3d(1, 1, 3, padding=1).to("meta")
    volumes = torch.zeros(1, 1, 32, 32, 64, device="meta"), torch.zeros(1, 1, 64, 64, 64, device="meta")
    infer = partial(WindowInferer((16, 16, 16), 2), network=network)
    assert [count(partial(infer, image))[1] for image in volumes] == [3, 3]


def test_a_batch_of_windows_has_a_third_fewer_kernels_than_monais_attention_without_gradients():
    windows, totals = torch.zeros(2, 2, 64, 64, 64, device="meta"), []
    for attention in (None, "fused"):
        network = swin_unetr(2, 2, "micro").to("meta").eval()  # MONAI's `use_flash_attention`
        if attention:
            set_attention(network, attention)
        with torch.no_grad():
            totals.append(count(partial(network, windows))[0])
    assert totals[1] <= totals[0] * 2 / 3


def test_steps_and_cases_run(monkeypatch, small):
    monkeypatch.setattr("scripts.benchmark.BRAIN", (64, 64, 64))
    for work, code in (("pretraining", "ours"), ("pretraining", "stock"), ("fine_tuning", "stock")):
        one_step(work, code)()
    for code in ("ours", "stock, cropped to the brain"):
        case(code)()
