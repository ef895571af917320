import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from common.ssl.losses import NTXentLoss, SSLLoss
from tests.oracles.contrastive import nt_xent

ROOT = Path(__file__).parents[3]


def embeddings(views, width=7, seed=0):
    return torch.randn(views, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("views", [4, 6, 10])
@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_contrastive_is_the_printed_equation(views, temperature):
    given = embeddings(views)
    expected = nt_xent(given.tolist(), temperature)
    assert NTXentLoss(temperature)(given).item() == pytest.approx(expected, rel=1e-12)


def test_temperature_is_a_half_by_default():
    given = embeddings(6)
    assert NTXentLoss()(given).item() == pytest.approx(nt_xent(given.tolist(), 0.5), rel=1e-12)
    assert SSLLoss().contrastive(given).item() == pytest.approx(nt_xent(given.tolist(), 0.5), rel=1e-12)


@pytest.mark.parametrize("samples", [2, 5])
def test_contrastive_of_orthonormal_views_is_the_log_of_their_number_less_one(samples):
    assert NTXentLoss()(torch.eye(2 * samples)).item() == pytest.approx(math.log(2 * samples - 1), rel=1e-6)


@pytest.mark.parametrize("samples", [2, 5])
def test_contrastive_of_equal_pairs_that_are_orthogonal_to_others(samples):
    expected = math.log(math.exp(2) + 2 * samples - 2) - 2  # 1 / t = 2
    assert NTXentLoss(0.5)(torch.eye(samples).repeat(2, 1)).item() == pytest.approx(expected, rel=1e-6)


def test_contrastive_of_one_sample_and_its_gradient_are_zero():
    given = embeddings(2).requires_grad_()
    loss = NTXentLoss()(given)
    loss.backward()
    assert loss.item() == 0
    assert not given.grad.any()


def test_contrastive_ignores_lengths():
    given = embeddings(6)
    lengths = torch.tensor([[0.01], [1], [3], [50], [7], [0.3]], dtype=torch.float64)
    torch.testing.assert_close(NTXentLoss()(given * lengths), NTXentLoss()(given))


def test_gradient_of_contrastive_equals_finite_differences():
    assert torch.autograd.gradcheck(NTXentLoss(), embeddings(6, width=3).requires_grad_())


def test_contrastive_is_computed_in_float32_under_autocast():
    given = embeddings(8, width=64).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = NTXentLoss()(given)
        halved = NTXentLoss()(given.bfloat16())
    assert loss.dtype == halved.dtype == torch.float32
    assert loss.item() == pytest.approx(nt_xent(given.tolist(), 0.5), rel=1e-6)
    assert halved.item() == pytest.approx(nt_xent(given.bfloat16().tolist(), 0.5), rel=1e-6)


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


@pytest.fixture
def target():
    generator = torch.Generator().manual_seed(4)
    return {
        "reconstruction": torch.randn(4, 2, 3, 3, 3, generator=generator),
        "rotation": torch.tensor([0, 3, 1, 1]),
    }


def expected_terms(prediction, target):
    given, wanted = prediction["reconstruction"].flatten().tolist(), target["reconstruction"].flatten().tolist()
    rotation = [
        math.log(sum(math.exp(logit) for logit in logits)) - logits[turn]
        for logits, turn in zip(prediction["rotation"].tolist(), target["rotation"].tolist(), strict=True)
    ]
    return {
        "reconstruction": sum(abs(a - b) for a, b in zip(given, wanted, strict=True)) / len(given),
        "rotation": sum(rotation) / len(rotation),
        "contrastive": nt_xent(prediction["contrastive"].tolist(), 0.5),
    }


def test_sum_of_the_three_terms(prediction, target):
    terms = SSLLoss()(prediction, target)
    expected = expected_terms(prediction, target)
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(
        {"total": sum(expected.values()), **expected}, rel=1e-6
    )
    assert tuple(terms) == ("total", *SSLLoss.TERMS)


def test_weights_count_in_the_total_alone(prediction, target):
    terms = SSLLoss(weights=[2.0, 0.0, 0.5])(prediction, target)
    expected = expected_terms(prediction, target)
    total = 2 * expected["reconstruction"] + 0.5 * expected["contrastive"]
    assert {name: term.item() for name, term in terms.items()} == pytest.approx({"total": total, **expected}, rel=1e-6)
    terms["total"].backward()
    assert prediction["rotation"].grad is None


@pytest.mark.parametrize("crops", [2, 5])
def test_chance_is_the_loss_of_heads_whose_output_is_the_same_for_all_inputs(crops):
    target = {"reconstruction": torch.zeros(2 * crops, 1), "rotation": torch.arange(2 * crops) % 4}
    collapsed = {
        "reconstruction": torch.zeros(2 * crops, 1),
        "rotation": torch.zeros(2 * crops, 4),
        "contrastive": torch.ones(2 * crops, 3),
    }
    terms = {name: value.item() for name, value in SSLLoss()(collapsed, target).items()}
    assert SSLLoss().chance(crops) == pytest.approx({name: terms[name] for name in ("rotation", "contrastive")})
    assert SSLLoss(weights=[1, 0, 1]).chance(crops).keys() == {"contrastive"}


def test_each_head_learns_from_its_own_term(prediction, target):
    SSLLoss()(prediction, target)["total"].backward()
    error = prediction["reconstruction"].detach() - target["reconstruction"]
    torch.testing.assert_close(prediction["reconstruction"].grad, error.sign() / error.numel())
    share = prediction["rotation"].detach().softmax(dim=1) - F.one_hot(target["rotation"], 4)
    torch.testing.assert_close(prediction["rotation"].grad, share / 4)
    assert prediction["contrastive"].grad.abs().sum() > 0


def test_terms_of_half_precision_predictions_are_summed_in_float32(prediction, target):
    halved = {name: tensor.detach().bfloat16() for name, tensor in prediction.items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total = SSLLoss()(halved, target)["total"]
    assert total.dtype == torch.float32
    assert total.item() == pytest.approx(sum(expected_terms(halved, target).values()), rel=2e-3)


# Views of other processes

GATHERING = """
import sys, torch, torch.distributed as dist
from torch import nn
from common.training.distributed import leave_process_group
from common.ssl.losses import NTXentLoss
dist.init_process_group("gloo", init_method=f"file://{sys.argv[1]}/store", rank=int(sys.argv[2]), world_size=2)
views = torch.load(f"{sys.argv[1]}/views.pt", weights_only=True)  # [process, 2N, width]
layer = nn.Linear(5, 3, bias=False, dtype=torch.float64)
layer.load_state_dict(torch.load(f"{sys.argv[1]}/layer.pt", weights_only=True))
model = nn.parallel.DistributedDataParallel(layer)
loss = NTXentLoss(gather=sys.argv[3] == "all")(model(views[dist.get_rank()]))
loss.backward()
torch.save({"loss": loss.detach(), "gradient": layer.weight.grad}, f"{sys.argv[1]}/{sys.argv[3]}{sys.argv[2]}.pt")
del model, loss
leave_process_group()
"""


def on_two_processes(folder, negatives):
    commands = [[sys.executable, "-c", GATHERING, str(folder), str(rank), negatives] for rank in (0, 1)]
    processes = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for command in commands]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    (folder / "store").unlink(missing_ok=True)
    return [torch.load(folder / f"{negatives}{rank}.pt", weights_only=True) for rank in (0, 1)]


def test_gathered_negatives_on_two_processes_equal_one_process_with_all_views(tmp_path):
    views = torch.randn(2, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    layer = torch.nn.Linear(5, 3, bias=False, dtype=torch.float64)
    torch.save(views, tmp_path / "views.pt")
    torch.save(layer.state_dict(), tmp_path / "layer.pt")
    together = views.reshape(2, 2, 3, 5)  # process, view, sample
    whole = layer(together.transpose(0, 1).reshape(12, 5))  # all first views, then all second views
    expected = NTXentLoss()(whole)
    assert expected.item() == pytest.approx(nt_xent(whole.tolist(), 0.5), rel=1e-12)
    expected.backward()
    first, second = on_two_processes(tmp_path, "all")
    torch.testing.assert_close((first["loss"] + second["loss"]) / 2, expected.detach(), rtol=1e-12, atol=0)
    for process in (first, second):
        torch.testing.assert_close(process["gradient"], layer.weight.grad, rtol=1e-10, atol=1e-14)

    alone = on_two_processes(tmp_path, "own")
    for number, process in enumerate(alone):
        assert process["loss"].item() == pytest.approx(nt_xent(layer(views[number]).tolist(), 0.5), rel=1e-12)


def test_gathering_without_other_processes_changes_nothing():
    given = embeddings(6)
    assert NTXentLoss(gather=True)(given) == NTXentLoss()(given)
