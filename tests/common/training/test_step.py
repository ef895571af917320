import pytest
import torch
from monai.engines import SupervisedTrainer
from torch import nn

from common.errors import InputError
from common.training.order import Batches
from common.training.step import Step
from tests.common.training.ranks import on_two_ranks
from tests.support import refused


def batches(count, size=2):
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "image": torch.randn(size, 6, generator=generator),
            "label": torch.randn(size, 3, generator=generator),
            "subject": [f"case{n}" for n in range(size)],
        }
        for _ in range(count)
    ]


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.GELU(), nn.LayerNorm(16), nn.Linear(16, 3))


def train(net, steps, step, loss=None):
    """Train for several steps, each with its batches; return the output of the last step."""
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=[Batches(iter(data), len(data)) for data in steps],
        network=net,
        optimizer=torch.optim.SGD(net.parameters(), lr=0.1),
        loss_function=loss or nn.MSELoss(),
        iteration_update=step,
        decollate=False,
    )
    trainer.run()
    return trainer.state.output


def descend(net, loss):
    """Take a step of plain gradient descent."""
    net.zero_grad()
    loss.backward()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter -= 0.1 * parameter.grad


def assert_alike(ours, plain, **tolerance):
    torch.testing.assert_close(list(ours.parameters()), list(plain.parameters()), **tolerance)


def is_untouched(net):
    return all(map(torch.equal, net.parameters(), network().parameters()))


def scaled(step, scale):
    """The step, with this initial scale of a float16 loss."""
    if step.dtype == torch.float16:
        step.scaler.load_state_dict(torch.amp.GradScaler("cpu", init_scale=scale).state_dict())
    return step


@pytest.mark.parametrize("count", [1, 4])
def test_steps_of_one_or_several_batches_are_plain_gradient_descent_of_the_total(count):
    ours, plain, parts = network(), network(), batches(2 * count)

    def loss(prediction, target):
        terms = {"squared": (prediction - target).square().mean(), "absolute": (prediction - target).abs().mean()}
        return {"total": 2 * terms["squared"]} | terms

    output = train(ours, [parts[:count], parts[count:]], Step(max_grad_norm=1e6), loss)
    for step in (parts[:count], parts[count:]):
        prediction = plain(step[-1]["image"])
        terms = loss(plain(torch.cat([part["image"] for part in step])), torch.cat([part["label"] for part in step]))
        descend(plain, terms["total"])
    torch.testing.assert_close(output["terms"], {name: term.data for name, term in terms.items()})
    torch.testing.assert_close(output["pred"], prediction)
    assert_alike(ours, plain, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_computes_the_network_in_half_and_the_loss_in_full(dtype):
    seen = {}

    def loss(prediction, target):
        seen["loss"], seen["autocast"] = prediction.dtype, torch.is_autocast_enabled("cpu")
        return nn.functional.mse_loss(prediction, target)

    ours, plain, (batch,) = network(), network(), batches(1)
    ours[0].register_forward_hook(lambda module, inputs, output: seen.update(layer=output.dtype))
    train(ours, [[batch]], scaled(Step(dtype), 2.0**8), loss)
    assert seen == {"layer": dtype, "loss": torch.float32, "autocast": False}
    descend(plain, nn.functional.mse_loss(plain(batch["image"]), batch["label"]))
    assert_alike(ours, plain, rtol=0.1, atol=2e-3)  # also that the weights stay float32


def test_a_scale_that_overflows_float16_is_lowered_and_the_step_left_out():
    net, step = network(), scaled(Step(torch.float16, max_grad_norm=1.0), 2.0**40)
    train(net, [batches(1)], step)
    assert is_untouched(net)
    resumed = Step(torch.float16)
    resumed.scaler.load_state_dict(step.scaler.state_dict())
    assert resumed.scaler.state_dict()["scale"] == step.scaler.state_dict()["scale"] == 2.0**39
    train(net, [batches(1)], resumed)
    assert resumed.scaler.state_dict()["scale"] == 2.0**38


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_gradients_are_clipped_at_their_norm(dtype):
    net, (batch,) = network(), batches(1)
    batch["label"] *= 100
    train(net, [[batch]], scaled(Step(dtype, max_grad_norm=0.25), 2.0**4))
    moved = [(new - old).flatten() for new, old in zip(net.parameters(), network().parameters(), strict=True)]
    assert torch.cat(moved).norm().item() == pytest.approx(0.1 * 0.25, rel=1e-3)


@pytest.mark.parametrize(("part", "value"), [("image", torch.nan), ("label", torch.inf), ("gradient", torch.inf)])
def test_what_is_not_finite_ends_the_training_before_the_network_changes(part, value):
    net, parts = network(), batches(2)
    parts[1]["subject"] = ["case3", "case1"]
    if part == "gradient":
        net[0].weight.register_hook(lambda gradient: gradient * value)
    else:
        parts[1][part][0, 0] = value
    problem = "norm of the gradients is nan" if part == "gradient" else f"loss is {value}"
    names = "case0, case1, case3" if part == "gradient" else "case1, case3"
    expected = f"the {problem} at iteration 1, subjects {names}; stopped before the network was changed"
    with refused(text=expected):
        train(net, [parts], Step())
    assert is_untouched(net)


def steps_of_a_rank(rank):
    """The weights after a step of two batches; the error of a step with NaN on rank 1; whether it kept the weights."""
    parts, net, broken, line = batches(4)[2 * rank : 2 * rank + 2], network(), network(), ""
    train(nn.parallel.DistributedDataParallel(net), [parts], Step())
    parts[1]["image"][0] += torch.nan if rank == 1 else 0
    try:
        train(nn.parallel.DistributedDataParallel(broken), [parts], Step())
    except InputError as error:
        line = str(error)
    return [parameter.detach().numpy() for parameter in net.parameters()], line, is_untouched(broken)


def test_two_batches_on_two_processes_are_four_on_one_and_all_end_where_one_loss_is_not_finite(tmp_path):
    alone = network()
    train(alone, [batches(4)], Step())
    ranks = on_two_ranks(steps_of_a_rank, tmp_path)
    lines = ["the norm of the gradients is nan", "the loss is nan"]
    for (parameters, line, untouched), expected in zip(ranks, lines, strict=True):
        tensors = [torch.from_numpy(parameter) for parameter in parameters]
        torch.testing.assert_close(tensors, [parameter.data for parameter in alone.parameters()], rtol=1e-6, atol=1e-7)
        assert line.startswith(f"{expected} at iteration 1, subjects case0, case1")
        assert untouched
