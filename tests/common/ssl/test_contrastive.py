"""The contrastive loss against loops over Python numbers, closed forms and analytic gradients."""

import numpy as np
import pytest
import torch

from common.ssl.tasks import nt_xent
from tests.common.training.ranks import on_two_ranks
from tests.oracles import contrastive


def embeddings(views, width=7):
    return torch.randn(views, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("views", "temperature"), [(4, 0.1), (6, 0.5), (10, 2.0)])
def test_contrastive_is_the_printed_equation(views, temperature):
    vectors = embeddings(views)
    for gather in (False, True):  # without other processes, gathering changes nothing
        loss = nt_xent(vectors, temperature, gather).item()
        assert loss == pytest.approx(contrastive.nt_xent(vectors.tolist(), temperature), rel=1e-12)


def test_contrastive_of_one_sample_and_its_gradient_are_zero():
    vectors = embeddings(2).requires_grad_()
    loss = nt_xent(vectors)
    loss.backward()
    assert loss.item() == 0
    assert not vectors.grad.any()


def test_contrastive_is_computed_in_float32_under_autocast():
    vectors = embeddings(8, width=64).float()
    for views in (vectors, vectors.bfloat16()):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = nt_xent(views)
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(contrastive.nt_xent(views.tolist(), 0.5), rel=1e-6)


# Views of other processes

VIEWS = torch.randn(2, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))  # [process, 2N, width]
WEIGHT = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def loss_on_a_rank(rank):
    """The loss with this process's negatives, as in validation; the loss with all negatives, and its gradient."""
    layer = WEIGHT.clone().requires_grad_()
    gathered = nt_xent(VIEWS[rank] @ layer.T, gather=True)
    gathered.backward()
    local = nt_xent(VIEWS[rank] @ WEIGHT.T, gather=True)
    return local.item(), gathered.item(), layer.grad.numpy()


def test_gathered_negatives_on_two_processes_equal_one_process_with_all_views(tmp_path):
    local, gathered, gradients = zip(*on_two_ranks(loss_on_a_rank, tmp_path), strict=True)
    layer = WEIGHT.clone().requires_grad_()
    together = VIEWS.reshape(2, 2, 3, 5).transpose(0, 1).reshape(12, 5)  # all first views, then all second views
    expected = nt_xent(together @ layer.T)
    expected.backward()
    assert expected.item() == pytest.approx(contrastive.nt_xent((together @ WEIGHT.T).tolist(), 0.5), rel=1e-12)
    assert sum(gathered) / 2 == pytest.approx(expected.item(), rel=1e-12)
    # DistributedDataParallel averages the gradients of the processes
    np.testing.assert_allclose(sum(gradients) / 2, layer.grad, rtol=1e-10, atol=1e-14)
    assert local == pytest.approx([contrastive.nt_xent((views @ WEIGHT.T).tolist(), 0.5) for views in VIEWS], rel=1e-12)
