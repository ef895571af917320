"""A step on PyTorch's `meta` device, which refuses reads of values and most tensors of the host."""

import pytest
import torch
from monai.engines import SupervisedTrainer
from monai.losses import DiceLoss
from monai.networks.nets import SwinUNETR

from common.ssl import SSLHead, attention, set_attention
from common.ssl.networks import settings
from common.ssl.tasks import SSLLoss
from common.ssl.views import TwoViews
from common.training.step import Step


def to_device(batch, device, non_blocking):
    return batch["image"].to(device), batch["label"].to(device)


@pytest.fixture(autouse=True)
def what_meta_lacks(monkeypatch):
    host = torch.Generator
    monkeypatch.setattr(torch, "Generator", lambda device="cpu": host())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: False)
    attention.window_codes.cache_clear()
    yield
    attention.window_codes.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize("work", ["pretraining", "fine-tuning"])
@pytest.mark.parametrize("kind", ["recomputed", "fused"])
def test_a_step_on_another_device_uses_no_tensor_of_the_host_and_waits_for_nothing(work, kind):
    if work == "pretraining":
        network, loss, prepare = SSLHead(4, "micro"), SSLLoss(), TwoViews()
    else:
        network, loss, prepare = SwinUNETR(4, 3, **settings("micro")._asdict()), DiceLoss(sigmoid=True), to_device
    trainer = SupervisedTrainer(
        device=torch.device("meta"),
        max_epochs=1,
        train_data_loader=[],
        network=set_attention(network, kind).to("meta"),
        optimizer=None,
        loss_function=loss,
        prepare_batch=prepare,
    )
    batch = {"image": torch.randn(2, 4, 64, 64, 64), "label": torch.zeros(2, 3, 64, 64, 64)}
    _, terms = Step()._forward(trainer, batch)
    assert {term.device.type for term in terms.values()} == {"meta"}
