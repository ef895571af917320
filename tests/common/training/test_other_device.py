"""A step on PyTorch's meta device, whose tensors have no values: host tensors among them fail, and so does each read.

On a GPU, a host tensor would fail as well, and a read of a value would wait for the device.
"""

import pytest
import torch
from monai.engines import SupervisedTrainer
from monai.losses import DiceLoss

from common.ssl import SSLHead, set_attention, swin_unetr
from common.ssl.losses import SSLLoss
from common.ssl.views import TwoViews
from common.training.step import Step

PRETRAINING = (SSLHead(4, "micro"), SSLLoss(), TwoViews())
FINE_TUNING = (
    swin_unetr(4, 3, "micro"),
    DiceLoss(sigmoid=True),
    lambda batch, device, _: (batch["image"].to(device), batch["label"].to(device)),
)


@pytest.mark.parametrize("attention", ["stored", "recomputed", "fused"])
@pytest.mark.parametrize("work", [PRETRAINING, FINE_TUNING], ids=["pretraining", "fine-tuning"])
def test_a_step_mixes_in_no_tensor_of_the_host_and_waits_for_no_value(work, attention, monkeypatch):
    on_host = torch.Generator
    monkeypatch.setattr(torch, "Generator", lambda device="cpu": on_host())  # the meta device has none,
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: False)  # and no autocast
    network, loss, prepare = work
    trainer = SupervisedTrainer(
        device=torch.device("meta"),
        max_epochs=1,
        train_data_loader=[],
        network=set_attention(network, attention).to("meta"),
        optimizer=None,
        loss_function=loss,
        prepare_batch=prepare,
    )
    _, terms = Step()._forward(trainer, {"image": torch.randn(2, 4, 64, 64, 64), "label": torch.ones(2, 3, 64, 64, 64)})
    terms["total"].backward()
    assert {term.device.type for term in terms.values()} == {"meta"}
