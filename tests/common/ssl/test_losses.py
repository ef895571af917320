import numpy as np
import pytest
import torch
from ignite.engine import Engine

from common.ssl.losses import LossTerms, SSLLoss
from tests.oracles.contrastive import agreement, nt_xent


def ssl_output(samples, seed):
    """An engine's output and its terms: reconstruction errors equal the seed, rotations have equal odds."""
    image = torch.zeros(2 * samples, 1, 2, 2, 2)
    contrastive = torch.randn(2 * samples, 5, generator=torch.Generator().manual_seed(seed))
    output = {
        "image": image,
        "pred": {"reconstruction": image + seed, "rotation": torch.zeros(2 * samples, 4), "contrastive": contrastive},
        "label": {"reconstruction": image, "rotation": torch.arange(2 * samples) % 4},
    }
    vectors = contrastive.tolist()
    terms = {"reconstruction": seed, "rotation": np.log(4), "contrastive": nt_xent(vectors, 0.5)}
    return output, terms | {"contrastive_cosine": agreement(vectors)}


def test_terms_are_weighted_by_the_batches_sizes():
    (first, one), (second, two), (single, _) = (ssl_output(size, seed) for size, seed in ((3, 1), (3, 2), (1, 3)))
    engine = Engine(lambda _, output: output)
    LossTerms(SSLLoss()).attach(engine, "key")
    metrics = engine.run([first, second, single]).metrics
    expected = {
        "reconstruction": (3 * 1 + 3 * 2 + 1 * 3) / 7,
        "rotation": np.log(4),
        "contrastive": (one["contrastive"] + two["contrastive"]) / 2,  # one crop has no other
    }
    total = sum(expected.values())
    expected["contrastive_cosine"] = (one["contrastive_cosine"] + two["contrastive_cosine"]) / 2
    assert metrics == pytest.approx({**expected, "total": total, "key": total}, rel=1e-6)
    assert all(isinstance(value, float) for value in metrics.values())
