import numpy as np
import pytest
import torch
from ignite.engine import Engine

from common.errors import InputError
from common.ssl.losses import SSLLoss
from common.training.handlers import LossTerms
from tests.oracles.contrastive import nt_xent


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


def test_the_total_has_the_weights_of_the_loss():
    engine = Engine(lambda _, output: output)
    LossTerms(SSLLoss(weights=[2.0, 0.0, 0.5])).attach(engine, "key")
    output, terms = ssl_output(3, seed=1)
    metrics = engine.run([output]).metrics
    expected = 2 * terms["reconstruction"] + 0.5 * terms["contrastive"]
    assert metrics["key"] == metrics["total"] == pytest.approx(expected, rel=1e-6)
    assert metrics["rotation"] == pytest.approx(terms["rotation"], rel=1e-6)


def test_single_crops_cannot_be_told_apart(ssl_engine):
    with pytest.raises(InputError, match="no batch with two crops"):
        ssl_engine.run([ssl_output(1, seed=1)[0]])


def test_each_run_begins_anew(ssl_engine):
    first, _ = ssl_output(2, seed=1)
    second, _ = ssl_output(2, seed=4)
    ssl_engine.run([first])
    assert ssl_engine.run([second]).metrics["reconstruction"] == pytest.approx(4)
