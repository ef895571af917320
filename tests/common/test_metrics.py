import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.engines import SupervisedEvaluator
from monai.handlers import from_engine

from common.losses import SSLLoss
from common.metrics import LossTerms, RegionDice
from common.preflight import InputError
from tests.oracles.contrastive import nt_xent
from tests.oracles.volumes import dice

# Terms of the self-supervised loss


def ssl_output(samples, seed):
    """Of a batch, and its terms: the reconstruction is off by the seed, each rotation has even odds."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.zeros(2 * samples, 1, 2, 2, 2)
    contrastive = torch.randn(2 * samples, 5, generator=generator)
    output = {
        "image": image,
        "pred": {"reconstruction": image + seed, "rotation": torch.zeros(2 * samples, 4), "contrastive": contrastive},
        "label": {"reconstruction": image, "rotation": torch.arange(2 * samples) % 4},
    }
    terms = {"reconstruction": seed, "rotation": np.log(4), "contrastive": nt_xent(contrastive.tolist(), 0.5)}
    return output, terms


@pytest.fixture
def ssl_engine():
    engine = Engine(lambda _, output: output)
    LossTerms(SSLLoss()).attach(engine, "key")
    return engine


def test_terms_are_weighted_by_the_batches_sizes(ssl_engine):
    sizes = [3, 3, 1]
    outputs, terms = zip(*(ssl_output(samples, seed) for seed, samples in enumerate(sizes, start=1)), strict=True)
    metrics = ssl_engine.run(outputs).metrics
    expected = {
        name: sum(size * batch[name] for size, batch in zip(sizes, terms, strict=True)) / sum(sizes)
        for name in ("reconstruction", "rotation")
    }
    expected["contrastive"] = (3 * terms[0]["contrastive"] + 3 * terms[1]["contrastive"]) / 6  # one crop has no other
    total = sum(expected.values())
    assert metrics == pytest.approx({**expected, "total": total, "key": total}, rel=1e-6)
    assert expected["reconstruction"] == pytest.approx(12 / 7)  # by hand: (3 * 1 + 3 * 2 + 1 * 3) / 7
    assert all(isinstance(value, float) for value in metrics.values())


def test_single_crops_cannot_be_told_apart(ssl_engine):
    with pytest.raises(InputError, match="no batch with two crops"):
        ssl_engine.run([ssl_output(1, seed=1)[0]])


def test_each_run_begins_anew(ssl_engine):
    first, _ = ssl_output(2, seed=1)
    second, _ = ssl_output(2, seed=4)
    ssl_engine.run([first])
    assert ssl_engine.run([second]).metrics["reconstruction"] == pytest.approx(4)


# Dice by region

REGIONS = ("TC", "WT", "ET")


def evaluate(convention, cases):
    """The evaluator's state after cases of (prediction, reference), in batches of two."""
    loader = [
        {
            "image": torch.stack([torch.as_tensor(prediction).float() for prediction, _ in batch]),
            "label": torch.stack([torch.as_tensor(reference).float() for _, reference in batch]),
        }
        for batch in (cases[start : start + 2] for start in range(0, len(cases), 2))
    ]
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=loader,
        network=torch.nn.Identity(),
        key_val_metric={"dice": RegionDice(convention, from_engine(["pred", "label"]))},
    )
    evaluator.run()
    return evaluator.state


def masks(regions, cases, seed):
    drawn = np.random.default_rng(seed).random((2, cases, regions, 4, 5, 3)) < 0.4
    return list(zip(*drawn, strict=True))


def test_dice_of_each_region_is_that_of_loops_over_voxels():
    cases = masks(regions=3, cases=5, seed=0)
    state = evaluate("brats2021", cases)
    expected = np.array([[dice(p[r], t[r]) for r in range(3)] for p, t in cases])
    np.testing.assert_allclose(state.metric_details["dice"].numpy(), expected, rtol=1e-6)
    means = dict(zip(REGIONS, expected.mean(axis=0), strict=True))
    assert state.metrics == pytest.approx({**means, "dice": expected.mean()}, rel=1e-6)


def test_one_region():
    cases = masks(regions=1, cases=3, seed=1)
    expected = np.mean([dice(p[0], t[0]) for p, t in cases])
    assert evaluate("atlas", cases).metrics == pytest.approx({"lesion": expected, "dice": expected}, rel=1e-6)


def test_empty_masks():
    empty, full = np.zeros((1, 4, 4, 4), dtype=bool), np.ones((1, 4, 4, 4), dtype=bool)
    cases = [(empty, empty), (full, empty), (empty, full), (full, full)]
    state = evaluate("atlas", cases)
    assert state.metric_details["dice"].flatten().tolist() == [1, 0, 0, 1]
    assert state.metrics["lesion"] == 0.5  # no case is left out of the mean
