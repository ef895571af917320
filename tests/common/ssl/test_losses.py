"""The losses against loops over Python numbers, closed forms and analytic gradients."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from common.ssl.losses import NTXentLoss, SSLLoss
from tests.common.training.ranks import on_two_ranks
from tests.oracles.contrastive import nt_xent


def embeddings(views, width=7):
    return torch.randn(views, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("views", "temperature"), [(4, 0.1), (6, 0.5), (10, 2.0)])
def test_contrastive_is_the_printed_equation(views, temperature):
    given = embeddings(views)
    for gather in (False, True):  # without other processes, gathering changes nothing
        found = NTXentLoss(temperature, gather)(given).item()
        assert found == pytest.approx(nt_xent(given.tolist(), temperature), rel=1e-12)


def test_temperature_is_a_half_by_default_and_lengths_do_not_matter():
    given = embeddings(6)
    expected = pytest.approx(nt_xent(given.tolist(), 0.5), rel=1e-12)
    lengths = torch.tensor([[0.01], [1], [3], [50], [7], [0.3]], dtype=torch.float64)
    assert NTXentLoss()(given).item() == SSLLoss().contrastive(given).item() == expected
    assert NTXentLoss()(given * lengths).item() == expected


def test_contrastive_of_one_sample_and_its_gradient_are_zero():
    given = embeddings(2).requires_grad_()
    loss = NTXentLoss()(given)
    loss.backward()
    assert loss.item() == 0
    assert not given.grad.any()


def test_gradient_of_contrastive_equals_finite_differences():
    assert torch.autograd.gradcheck(NTXentLoss(), embeddings(6, width=3).requires_grad_())


def test_contrastive_is_computed_in_float32_under_autocast():
    given = embeddings(8, width=64).float()
    for views in (given, given.bfloat16()):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = NTXentLoss()(views)
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(nt_xent(views.tolist(), 0.5), rel=1e-6)


def test_invalid_temperatures_and_odd_views_are_refused():
    with pytest.raises(ValueError, match="5 views: expected two for each sample"):
        NTXentLoss()(embeddings(5))
    for temperature in (0, -0.5):
        with pytest.raises(ValueError, match=f"temperature {temperature}: expected a number above 0"):
            NTXentLoss(temperature)


@pytest.fixture
def prediction():
    generator = torch.Generator().manual_seed(3)
    return {
        "reconstruction": torch.randn(4, 2, 3, 3, 3, generator=generator).requires_grad_(),
        "rotation": torch.randn(4, 4, generator=generator).requires_grad_(),
        "contrastive": torch.randn(4, 6, generator=generator).requires_grad_(),
    }


TARGET = {
    "reconstruction": torch.randn(4, 2, 3, 3, 3, generator=torch.Generator().manual_seed(4)),
    "rotation": torch.tensor([0, 3, 1, 1]),
}


def expected_terms(prediction):
    given, wanted = prediction["reconstruction"].flatten().tolist(), TARGET["reconstruction"].flatten().tolist()
    rotation = [
        math.log(sum(math.exp(logit) for logit in logits)) - logits[turn]
        for logits, turn in zip(prediction["rotation"].tolist(), TARGET["rotation"].tolist(), strict=True)
    ]
    return {
        "reconstruction": sum(abs(a - b) for a, b in zip(given, wanted, strict=True)) / len(given),
        "rotation": sum(rotation) / len(rotation),
        "contrastive": nt_xent(prediction["contrastive"].tolist(), 0.5),
    }


@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [2.0, 0.0, 0.5]])
def test_weights_count_in_the_total_alone(prediction, weights):
    options = {} if weights == [1.0, 1.0, 1.0] else {"weights": weights}
    terms = SSLLoss(**options)(prediction, TARGET)
    expected = expected_terms(prediction)
    total = sum(weight * term for weight, term in zip(weights, expected.values(), strict=True))
    assert {name: term.item() for name, term in terms.items()} == pytest.approx({"total": total} | expected, rel=1e-6)
    assert tuple(terms) == ("total", *SSLLoss.TERMS)
    terms["total"].backward()
    assert (prediction["rotation"].grad is None) == (weights[1] == 0)


@pytest.mark.parametrize("crops", [2, 5])
def test_chance_is_the_loss_of_heads_whose_output_is_the_same_for_all_inputs(crops):
    target = {"reconstruction": torch.zeros(2 * crops, 1), "rotation": torch.arange(2 * crops) % 4}
    shapes = {"reconstruction": 1, "rotation": 4, "contrastive": 3}
    collapsed = {name: torch.ones(2 * crops, width) for name, width in shapes.items()}
    terms = {name: value.item() for name, value in SSLLoss()(collapsed, target).items()}
    assert SSLLoss().chance(crops) == pytest.approx({name: terms[name] for name in ("rotation", "contrastive")})
    assert SSLLoss(weights=[1, 0, 1]).chance(crops).keys() == {"contrastive"}
    assert SSLLoss().chance(0)["contrastive"] == 0


def test_each_head_learns_from_its_own_term(prediction):
    SSLLoss()(prediction, TARGET)["total"].backward()
    error = prediction["reconstruction"].detach() - TARGET["reconstruction"]
    torch.testing.assert_close(prediction["reconstruction"].grad, error.sign() / error.numel())
    share = prediction["rotation"].detach().softmax(dim=1) - F.one_hot(TARGET["rotation"], 4)
    torch.testing.assert_close(prediction["rotation"].grad, share / 4)
    assert prediction["contrastive"].grad.abs().sum() > 0


def test_terms_of_half_precision_predictions_are_summed_in_float32(prediction):
    halved = {name: tensor.detach().bfloat16() for name, tensor in prediction.items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total = SSLLoss()(halved, TARGET)["total"]
    assert total.dtype == torch.float32
    assert total.item() == pytest.approx(sum(expected_terms(halved).values()), rel=2e-3)


# Views of other processes

VIEWS = torch.randn(2, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))  # [process, 2N, width]
WEIGHT = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def loss_on_a_rank(rank):
    """With the negatives of this process; with those of all, and the gradient of that."""
    layer = WEIGHT.clone().requires_grad_()
    own, gathered = (NTXentLoss(gather=gather)(VIEWS[rank] @ layer.T) for gather in (False, True))
    gathered.backward()
    return own.item(), gathered.item(), layer.grad.numpy()


def test_gathered_negatives_on_two_processes_equal_one_process_with_all_views(tmp_path):
    own, gathered, gradients = zip(*on_two_ranks(loss_on_a_rank, tmp_path), strict=True)
    layer = WEIGHT.clone().requires_grad_()
    together = VIEWS.reshape(2, 2, 3, 5).transpose(0, 1).reshape(12, 5)  # all first views, then all second views
    expected = NTXentLoss()(together @ layer.T)
    expected.backward()
    assert expected.item() == pytest.approx(nt_xent((together @ WEIGHT.T).tolist(), 0.5), rel=1e-12)
    assert sum(gathered) / 2 == pytest.approx(expected.item(), rel=1e-12)
    # DistributedDataParallel averages the gradients of the processes
    np.testing.assert_allclose(sum(gradients) / 2, layer.grad, rtol=1e-10, atol=1e-14)
    assert own == pytest.approx([nt_xent((views @ WEIGHT.T).tolist(), 0.5) for views in VIEWS], rel=1e-12)
