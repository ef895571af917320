import math
import random
from collections import Counter
from itertools import chain

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from scipy import stats

from common.ssl import views
from common.ssl.views import TwoViews
from tests.oracles import corruption, volumes


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def crops(samples=3, channels=2, side=12, depth=10, seed=0):
    return torch.randn(samples, channels, side, side, depth, generator=generator(seed))


def listed(starts, edges):
    """Boxes (start, edges) of each crop, without empty ones."""
    return [
        [(tuple(a), tuple(b)) for a, b in zip(start, edge, strict=True) if all(b)]
        for start, edge in zip(starts.tolist(), edges.tolist(), strict=True)
    ]


def volumes_of(boxes):
    return [math.prod(edges) for _, edges in boxes]


# Rotation


def test_turns_are_uniform_and_independent_between_views_and_samples():
    made = TwoViews(seed=1)
    batch = {"image": torch.zeros(2, 1, 4, 4, 4)}
    turns = torch.stack([made(batch)[1]["rotation"] for _ in range(1000)])
    assert set(turns.unique().tolist()) == {0, 1, 2, 3}
    for one, other in [(0, 2), (1, 3), (0, 1), (2, 3), (0, 3)]:  # views of a sample; samples of a view; across
        pairs = Counter(zip(turns[:, one].tolist(), turns[:, other].tolist(), strict=True))
        observed = [pairs[a, b] for a in range(4) for b in range(4)]
        assert stats.chisquare(observed).pvalue > 1e-3  # against 16 equally frequent pairs


# Boxes


@pytest.mark.parametrize("sides", [(20, 24, 40), (64, 64, 32)])
def test_boxes_are_drawn_as_the_method_describes(sides):
    """Places and edges of the boxes, and how many a crop gets until their share is reached."""
    ours, draw = listed(*views.boxes(1000, sides, generator(2))), random.Random(0)
    expected = [corruption.drop(sides, draw) for _ in range(1000)]
    assert all(sum(volumes_of(boxes)[:-1]) < 0.3 * np.prod(sides) for boxes in ours)
    assert max(map(len, ours)) > views.BOXES_AT_ONCE
    for measure in (sum, len):
        of_ours, of_expected = ([measure(volumes_of(boxes)) for boxes in drawn] for drawn in (ours, expected))
        assert stats.ks_2samp(of_ours, of_expected).pvalue > 1e-2
        assert np.mean(of_ours) == pytest.approx(np.mean(of_expected), rel=0.08)
    of_ours, of_expected = (np.array([*chain(*drawn)]).reshape(-1, 6).T for drawn in (ours, expected))
    for one, other in zip(of_ours, of_expected, strict=True):  # starts along the axes, then edges
        assert {*one} == {*other}
        assert stats.ks_2samp(one, other).pvalue > 1e-3
    np.testing.assert_allclose(np.corrcoef(of_ours), np.corrcoef(of_expected), atol=0.05)


def test_crops_too_small_for_a_voxel_get_no_boxes():
    assert listed(*views.boxes(2, (7, 40, 40), generator())) == [[], []]
    assert all(set(edges) == {1} for boxes in listed(*views.boxes(9, (8, 8, 8), generator())) for _, edges in boxes)


# Corruption


@pytest.mark.parametrize(
    ("samples", "channels", "side", "depth", "dtype"),
    [
        (3, 2, 24, 16, torch.float32),
        (1, 4, 24, 40, torch.float32),
        (2, 1, 32, 32, torch.float64),
        (3, 2, 32, 24, torch.float16),
        (3, 3, 32, 24, torch.bfloat16),
    ],
)
def test_corruption_equals_the_oracle(samples, channels, side, depth, dtype):
    """The test repeats the draws in the same order, because a seed must always give the same views."""
    scales = torch.tensor([1.0, 30.0, 0.1, 5.0])[:channels, None, None, None]
    original = (crops(2 * samples, channels, side, depth) * scales + 3.0).to(dtype)
    before = original.clone()
    made = views.corrupt(original, generator(4))
    assert torch.equal(original, before)
    rng = generator(4)
    partners = torch.cat(
        [row + view * samples for view, row in enumerate(torch.randint(samples, (2, samples), generator=rng))]
    )
    dropped = listed(*views.boxes(2 * samples, original.shape[2:], rng))
    swapped = listed(*views.boxes(2 * samples, original.shape[2:], rng, partners != torch.arange(2 * samples)))
    seed = int(torch.randint(2**63 - 1, (), generator=rng))
    voxels = sum(sum(volumes_of(boxes)) for boxes in dropped)
    drawn = torch.float64 if dtype == torch.float64 else torch.float32
    noise = torch.randn((channels, 1 + voxels), generator=generator(seed), dtype=drawn).double().numpy()
    noise = corruption.shares(noise[:, 1:], dropped)  # the first is of no box
    expected = corruption.corrupted(original.double().numpy(), dropped, noise, partners.tolist(), swapped)
    rounding = max(torch.finfo(dtype).eps, 1e-6) if dtype != torch.float64 else 1e-12
    span = original.double().amax(dim=(0, 2, 3, 4)) - original.double().amin(dim=(0, 2, 3, 4))
    error = (made.double() - torch.from_numpy(expected)).abs().amax(dim=(0, 2, 3, 4)) / span
    assert error.max() < 2 * rounding
    changed = made.double().numpy() != original.double().numpy()
    assert 0.02 < changed.mean() < 0.5
    assert not changed[expected == original.double().numpy()].any()


def test_a_box_of_one_value_gets_the_minimum_of_the_crop():
    original = crops(samples=2, channels=1, side=8, depth=8)  # a crop of each view, which draws itself as its partner
    made = views.corrupt(original, generator())
    for crop, changed in zip(original, made, strict=True):
        assert set(changed[changed != crop].tolist()) == {crop.min().item()}


# Views


def test_target_is_the_clean_turned_crop_of_both_views():
    original = crops(samples=4)
    inputs, target = TwoViews(seed=2)({"image": original})
    assert inputs.shape == target["reconstruction"].shape == (8, 2, 12, 12, 10)
    assert target["rotation"].dtype == torch.int64
    assert len(set(target["rotation"].tolist())) > 1
    for view in range(8):
        turn = target["rotation"][view].item()
        for made, crop in zip(target["reconstruction"][view], original[view % 4], strict=True):
            np.testing.assert_array_equal(made.numpy(), volumes.quarter_turn(crop.numpy(), turn))


def run_of(made, batches=2):
    return [made({"image": crops(seed=number)})[0] for number in range(batches)]


def equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_the_seed_decides_and_the_global_generator_is_neither_used_nor_changed():
    original = run_of(TwoViews(seed=5))
    torch.manual_seed(99)
    state = torch.get_rng_state()
    assert equal(run_of(TwoViews(seed=5)), original)
    assert not equal(run_of(TwoViews(seed=6)), original)
    assert torch.equal(torch.get_rng_state(), state)


def test_an_engine_sees_the_same_views_in_every_run():
    made, seen = TwoViews(seed=3), []
    engine = Engine(lambda _, batch: seen.append(made(batch)[0]))
    made.attach(engine)
    for _ in range(2):
        engine.run([{"image": crops()} for _ in range(3)])
    assert equal(seen[:3], seen[3:])
    assert not torch.equal(seen[0], seen[1])
