import math
import random
from collections import Counter

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from scipy import stats

from common.ssl import views
from common.ssl.views import TwoViews
from tests.oracles import corruption, volumes


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def crops(samples=3, channels=2, side=12, depth=10, seed=0):
    return torch.randn(samples, channels, side, side, depth, generator=generator(seed))


@pytest.fixture
def no_boxes(monkeypatch):
    monkeypatch.setattr(views, "boxes", lambda count, *_: torch.zeros(2, count, 0, 3, dtype=torch.int64))


def given_boxes(monkeypatch, *drawn):
    """Give `corrupt` these boxes (start, edges) of each crop, first for the noise, then for the swap."""
    remaining = [
        torch.tensor([boxes + [((0, 0, 0), (0, 0, 0))] * (max(map(len, crops)) - len(boxes)) for boxes in crops])
        .reshape(len(crops), -1, 2, 3)
        .unbind(2)
        for crops in drawn
    ]
    monkeypatch.setattr(views, "boxes", lambda *_: remaining.pop(0))


def listed(starts, edges):
    """Boxes (start, edges) of each crop, without empty ones."""
    return [
        [(tuple(a), tuple(b)) for a, b in zip(start, edge, strict=True) if all(b)]
        for start, edge in zip(starts.tolist(), edges.tolist(), strict=True)
    ]


def volumes_of(boxes):
    return [math.prod(edges) for _, edges in boxes]


# Rotation


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_turn_is_about_z(turns):
    given = crops(samples=1, side=5, depth=3)
    turned = views.rotate(given, torch.tensor([turns]))
    for channel in range(2):
        expected = volumes.quarter_turn(given[0, channel].numpy(), turns)
        np.testing.assert_array_equal(turned[0, channel].numpy(), expected)


def test_each_crop_has_its_own_number_of_turns():
    given = crops(samples=5)
    turns = [2, 0, 3, 1, 1]
    turned = views.rotate(given, torch.tensor(turns))
    for crop, result, turn in zip(given, turned, turns, strict=True):
        np.testing.assert_array_equal(result.numpy(), np.rot90(crop.numpy(), turn, axes=(1, 2)))


def test_crops_with_unequal_edges_are_refused():
    given = torch.zeros(1, 1, 8, 6, 8)
    with pytest.raises(ValueError, match=r"\(8, 6, 8\) voxels: expected equal edges in x and y"):
        views.rotate(given, torch.tensor([0]))
    with pytest.raises(ValueError, match="expected equal edges in x and y"):
        TwoViews()({"image": given})


def test_turns_are_uniform_and_independent_between_views_and_samples():
    made = TwoViews(seed=1)
    batch = {"image": torch.zeros(2, 1, 4, 4, 4)}
    turns = torch.stack([made(batch)[1]["rotation"] for _ in range(1500)])
    assert set(turns.unique().tolist()) == {0, 1, 2, 3}
    for one, other in [(0, 2), (1, 3), (0, 1), (2, 3), (0, 3)]:  # views of a sample; samples of a view; across
        pairs = Counter(zip(turns[:, one].tolist(), turns[:, other].tolist(), strict=True))
        observed = [pairs[a, b] for a in range(4) for b in range(4)]
        assert stats.chisquare(observed).pvalue > 1e-3  # against 16 equally frequent pairs


# Boxes


@pytest.mark.parametrize("sides", [(20, 40, 60), (64, 64, 64), (96, 96, 48)])
def test_a_box_is_uniform_in_whole_voxels(sides, monkeypatch):
    monkeypatch.setattr(views, "LARGEST_SHARE", 1e-9)  # reached by the first box
    dropped = listed(*views.boxes(4000, sides, generator()))
    assert {len(boxes) for boxes in dropped} == {1}
    starts, edges = np.array(dropped)[:, 0].transpose(1, 0, 2)
    free = np.ones(len(starts), dtype=bool)
    for axis, side in enumerate(sides):
        shortest, longest = int(0.05 * side), int(0.25 * side)
        start, edge = starts[:, axis], edges[:, axis]
        counts = np.bincount(start)
        assert len(counts) == side - shortest  # the last start is one voxel before it
        assert stats.chisquare(counts).pvalue > 1e-3
        whole = start + longest <= side
        lengths = Counter(edge[whole].tolist())
        assert set(lengths) == set(range(shortest, longest))
        assert stats.chisquare(list(lengths.values())).pvalue > 1e-3
        assert (start + edge).max() == side  # cut off, not moved back
        assert edge[start == side - shortest - 1].max() == shortest + 1
        free &= whole
    independent = np.corrcoef(np.concatenate([starts[free], edges[free]], axis=1).T) - np.eye(6)
    assert np.abs(independent).max() < 4 / free.sum() ** 0.5


@pytest.mark.parametrize("sides", [(20, 24, 40), (20, 20, 20), (64, 64, 32)])
def test_boxes_are_dropped_until_the_share_is_reached(sides):
    ours = [volumes_of(boxes) for boxes in listed(*views.boxes(1500, sides, generator(2)))]
    draw = random.Random(0)
    expected = [volumes_of(corruption.drop(sides, draw)) for _ in range(1500)]
    assert all(sum(volumes[:-1]) < 0.3 * np.prod(sides) for volumes in ours)
    assert max(map(len, ours)) > views.BOXES_AT_ONCE
    for measure in (sum, len):
        of_ours, of_expected = ([measure(volumes) for volumes in drawn] for drawn in (ours, expected))
        assert stats.ks_2samp(of_ours, of_expected).pvalue > 1e-2
        assert np.mean(of_ours) == pytest.approx(np.mean(of_expected), rel=0.08)


def test_boxes_stop_at_the_one_that_reaches_the_target(monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda count, **_: torch.linspace(0, 1, count, dtype=torch.float64))
    sides = (20, 20, 20)
    dropped = listed(*views.boxes(101, sides, generator()))
    assert dropped[0] == []  # a target of nothing
    for number, boxes in enumerate(dropped[1:], start=1):
        target, volumes = number / 100 * 0.3 * 20**3, volumes_of(boxes)
        assert sum(volumes[:-1]) < target <= sum(volumes)


def test_boxes_of_crops_are_independent():
    drawn = [listed(*views.boxes(2, (20, 20, 20), one)) for one in [generator(5)] for _ in range(800)]
    shares = np.array([[sum(volumes_of(boxes)) for boxes in pair] for pair in drawn])
    assert abs(np.corrcoef(shares.T)[0, 1]) < 0.12
    corners = [[boxes[0][0] for boxes in pair] for pair in drawn if all(pair)]
    pairs = Counter((one[0] // 10, other[0] // 10) for one, other in corners)
    assert stats.chi2_contingency([[pairs[a, b] for b in range(2)] for a in range(2)]).pvalue > 1e-3
    assert not any(one == other for one, other in corners)


def test_only_wanted_crops_get_boxes():
    dropped = listed(*views.boxes(40, (20, 20, 20), generator(), torch.arange(40) % 2 == 0))
    assert [bool(boxes) for boxes in dropped] == [True, False] * 20


def test_crops_too_small_for_a_voxel_get_no_boxes():
    assert listed(*views.boxes(2, (7, 40, 40), generator())) == [[], []]
    assert all(set(edges) == {1} for boxes in listed(*views.boxes(9, (8, 8, 8), generator())) for _, edges in boxes)


# Corruption


@pytest.mark.parametrize(
    ("samples", "channels", "side", "depth", "dtype"),
    [
        (3, 2, 24, 16, torch.float32),
        (1, 2, 24, 40, torch.float32),
        (2, 1, 40, 40, torch.float64),
        (2, 4, 64, 64, torch.float32),
        (3, 2, 40, 24, torch.float16),
        (3, 3, 40, 24, torch.bfloat16),
    ],
)
def test_corruption_equals_the_oracle(samples, channels, side, depth, dtype):
    """The draws are repeated in their order here: a seed must keep giving the same views."""
    given = crops(2 * samples, channels, side, depth) * torch.tensor([1.0, 30.0, 0.1, 5.0])[:channels, None, None, None]
    given = (given + 3.0).to(dtype)
    before = given.clone()
    made = views.corrupt(given, generator(4), 2)
    assert torch.equal(given, before)
    one = generator(4)
    partners = torch.cat(
        [row + view * samples for view, row in enumerate(torch.randint(samples, (2, samples), generator=one))]
    )
    dropped = listed(*views.boxes(2 * samples, given.shape[2:], one))
    swapped = listed(*views.boxes(2 * samples, given.shape[2:], one, partners != torch.arange(2 * samples)))
    seed = int(torch.randint(2**63 - 1, (), generator=one))
    voxels = sum(sum(volumes_of(boxes)) for boxes in dropped)
    drawn = torch.float64 if dtype == torch.float64 else torch.float32
    noise = torch.randn((channels, voxels), generator=generator(seed), dtype=drawn).double().numpy()
    noise = corruption.shares(noise, dropped)
    expected = corruption.corrupted(given.double().numpy(), dropped, noise, partners.tolist(), swapped)
    rounding = max(torch.finfo(dtype).eps, 1e-6) if dtype != torch.float64 else 1e-12
    span = given.double().amax(dim=(0, 2, 3, 4)) - given.double().amin(dim=(0, 2, 3, 4))
    error = (made.double() - torch.from_numpy(expected)).abs().amax(dim=(0, 2, 3, 4)) / span
    assert error.max() < 2 * rounding
    changed = made.double().numpy() != given.double().numpy()
    assert 0.02 < changed.mean() < 0.5
    assert not changed[expected == given.double().numpy()].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_noise_of_each_box_spans_exactly_the_range_of_the_channel(dtype, monkeypatch):
    given = crops(samples=3, channels=1).mul(torch.tensor([1.0, 50.0, 0.1]).view(3, 1, 1, 1, 1)).to(dtype)
    boxes = [((0, 0, 0), (1, 1, 2)), ((2, 3, 4), (3, 5, 4)), ((8, 8, 8), (4, 4, 2))]
    given_boxes(monkeypatch, [boxes] * 3, [[]] * 3)
    made = views.corrupt(given, generator(9))
    for before, after in zip(given, made, strict=True):
        for box in boxes:
            inside = after[corruption.inside(box)]
            assert (inside.min(), inside.max()) == (before.min(), before.max())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_single_precision_rounded(dtype):
    given = crops(samples=2, side=24, depth=24).to(dtype)
    expected = views.corrupt(given.float(), generator()).to(dtype)
    assert torch.equal(views.corrupt(given, generator()), expected)


def test_noise_is_scaled_over_all_channels_of_the_box_together(monkeypatch):
    given = crops(samples=1, channels=4) * torch.tensor([1.0, 50.0, 0.1, 3.0]).view(4, 1, 1, 1)
    box = ((2, 3, 4), (2, 2, 2))
    seen = Counter()
    for seed in range(20):
        given_boxes(monkeypatch, [[box]], [[]])
        inside = views.corrupt(given, generator(seed))[0][corruption.inside(box)].flatten(1)
        low, high = given[0].flatten(1).aminmax(dim=1)
        share = (inside - low[:, None]) / (high - low)[:, None]
        assert share.min() == pytest.approx(0, abs=1e-6)
        assert share.max() == pytest.approx(1, abs=1e-6)
        seen[int(share.amin(dim=1).argmin()), int(share.amax(dim=1).argmax())] += 1
        assert (share.amin(dim=1) > 1e-5).sum() == 3  # the other channels do not reach the minimum
    assert len(seen) > 5


def test_noise_is_gaussian_and_each_voxel_and_channel_has_its_own(monkeypatch):
    given = crops(samples=2, channels=2, side=16, depth=16)
    everything = ((0, 0, 0), (16, 16, 16))
    given_boxes(monkeypatch, [[everything]] * 2, [[]] * 2)
    made = views.corrupt(given, generator(9)).flatten(2).flatten(0, 1).numpy()
    for values in made:
        assert stats.kstest((values - values.mean()) / values.std(), "norm").pvalue > 1e-2
        assert len(set(values.tolist())) > 4000
    assert np.abs(np.corrcoef(made) - np.eye(4)).max() < 0.06
    spans = np.ptp(given.flatten(2).flatten(0, 1).numpy(), axis=1)
    one, other = (made.std(axis=1) / spans).reshape(2, 2).T
    np.testing.assert_allclose(one, other, rtol=0.05)  # the same spread in each channel of a sample


def test_noise_stays_in_its_box(monkeypatch):
    given = crops()
    box = ((2, 3, 1), (3, 3, 8))
    given_boxes(monkeypatch, [[box], [], []], [[]] * 3)
    changed = views.corrupt(given, generator(9)) != given
    expected = torch.zeros_like(changed)
    expected[0][corruption.inside(box)] = True
    assert torch.equal(changed, expected)


def test_later_boxes_cover_earlier_ones(monkeypatch):
    given = crops(samples=1, channels=1)
    boxes = [((1, 1, 1), (6, 6, 6)), ((9, 9, 2), (2, 2, 2)), ((4, 4, 4), (6, 6, 5)), ((5, 5, 5), (2, 2, 2))]
    given_boxes(monkeypatch, [boxes], [[]])
    inside = views.corrupt(given, generator(3))[0][corruption.inside(boxes[-1])]
    assert (inside.min(), inside.max()) == (
        given.min(),
        given.max(),
    )  # nothing covers the last box, so it has both extremes


def test_a_box_of_one_value_gets_the_minimum_of_the_crop(monkeypatch):
    given = crops(channels=1)
    given_boxes(monkeypatch, [[((2, 3, 4), (1, 1, 1))]] * 3, [[]] * 3)
    made = views.corrupt(given, generator())
    assert torch.equal(made[:, 0, 2, 3, 4], given.amin(dim=(1, 2, 3, 4)))


def test_a_constant_channel_stays_constant():
    given = crops(samples=2, channels=2, side=20, depth=20)
    given[:, 1] = 7.25
    made = views.corrupt(given, generator())
    assert torch.equal(made[:, 1], given[:, 1])
    assert (made[:, 0] != given[:, 0]).any()


def test_swapped_voxels_come_from_the_partner_with_its_noise(monkeypatch):
    samples = 4
    given = torch.rand(samples, 2, 8, 8, 8, generator=generator())
    given += 10.0 * torch.arange(samples).view(-1, 1, 1, 1, 1)  # shows which sample a voxel comes from
    given += torch.tensor([0.0, 1000.0]).view(1, 2, 1, 1, 1)  # and which channel
    noise, swap = ((1, 1, 1), (3, 3, 3)), [((3, 3, 3), (3, 4, 4)), ((4, 3, 3), (3, 4, 4))]
    swapped = Counter()
    for seed in range(60):
        given_boxes(monkeypatch, [[noise]] * samples, [swap] * samples)
        made = views.corrupt(given, generator(seed))
        for sample in range(samples):
            (partner,) = {int(value // 10) for value in made[sample, 0, 3:7, 3:7, 3:7].flatten().tolist()}
            swapped[sample, partner] += 1
            calm = torch.zeros_like(given[0], dtype=torch.bool)
            calm[:, 3:7, 3:7, 3:7] = True
            corner = (slice(None), 3, 3, 3)  # in both boxes
            calm[corner] = False
            assert torch.equal(made[sample][calm], given[partner][calm])
            assert not torch.equal(made[sample][corner], given[partner][corner])
            assert torch.equal(made[sample][corner] // 1000, torch.tensor([0.0, 1.0]))
    assert set(swapped) == {(a, b) for a in range(samples) for b in range(samples)}  # the partner may be itself
    assert stats.chisquare(list(swapped.values())).pvalue > 1e-3


@pytest.mark.parametrize("samples", [1, 3])
def test_partners_are_of_the_same_view(samples, monkeypatch):
    """The positive of the contrastive task is never copied."""
    given = torch.arange(2.0 * samples).view(-1, 1, 1, 1, 1)  # one voxel each, its number: shows the partner
    one, partners = generator(1), []
    for _ in range(600):
        given_boxes(monkeypatch, [[]] * 2 * samples, [[((0, 0, 0), (1, 1, 1))]] * 2 * samples)
        partners.append(views.corrupt(given, one, 2).flatten().int())
    first, second = torch.stack(partners).chunk(2, dim=1)
    assert set(first.unique().tolist()) == set(range(samples))
    assert set(second.unique().tolist()) == set(range(samples, 2 * samples))
    if samples > 1:
        pairs = Counter(zip(first[:, 0].tolist(), second[:, 0].tolist(), strict=True))
        assert stats.chisquare([pairs[a, b] for a in range(3) for b in range(3, 6)]).pvalue > 1e-3


def test_a_batch_of_one_is_never_swapped():
    given = torch.zeros(2, 1, 20, 20, 20)
    given[1] = 1  # noise does not show in a constant crop
    assert torch.equal(views.corrupt(given, generator(), 2), given)
    assert not torch.equal(views.corrupt(given, generator(1), 1), given)  # a batch of two is


def test_nothing_waits_for_the_device(monkeypatch):
    """Meta tensors have no values, so that any read of one fails. On a GPU, such a read would wait."""
    on_host = torch.Generator
    monkeypatch.setattr(torch, "Generator", lambda device="cpu": on_host("cpu"))  # the meta device has no generator
    inputs, target = TwoViews()({"image": crops(samples=4, side=24, depth=24)}, torch.device("meta"))
    assert inputs.device == target["reconstruction"].device == target["rotation"].device == torch.device("meta")
    assert inputs.shape == (8, 2, 24, 24, 24)


def test_threads_change_nothing():
    given, threads = crops(samples=4, side=40, depth=40), torch.get_num_threads()
    try:
        made = [torch.set_num_threads(count) or views.corrupt(given, generator(), 2) for count in (1, 2)]
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*made)


# Views


def test_target_is_the_clean_turned_crop_of_both_views():
    given = crops(samples=4)
    inputs, target = TwoViews(seed=2)({"image": given})
    assert inputs.shape == target["reconstruction"].shape == (8, 2, 12, 12, 10)
    assert target["rotation"].dtype == torch.int64
    assert len(set(target["rotation"].tolist())) > 1
    for view in range(8):
        turn = target["rotation"][view].item()
        expected = np.rot90(given[view % 4].numpy(), turn, axes=(1, 2))
        np.testing.assert_array_equal(target["reconstruction"][view].numpy(), expected)


@pytest.mark.usefixtures("no_boxes")
def test_without_boxes_input_and_target_are_equal():
    inputs, target = TwoViews()({"image": crops()})
    assert torch.equal(inputs, target["reconstruction"])


def test_a_share_of_the_input_is_corrupted():
    inputs, target = TwoViews()({"image": crops(samples=4, side=20, depth=20)})
    changed = (inputs != target["reconstruction"]).any(dim=1).flatten(1).float().mean(dim=1)
    assert changed.min() >= 0
    assert 0.05 < changed.mean() < 0.45
    assert changed.max() < 2 * (0.3 + 0.25**3)


def test_views_are_corrupted_independently():
    image = crops(samples=1).expand(3, -1, -1, -1, -1).clone()
    inputs, target = TwoViews(seed=0)({"image": image})
    masks = (inputs != target["reconstruction"]).any(dim=1).flatten(1)
    assert len({tuple(mask.tolist()) for mask in masks}) == 6


def test_corrupt_gets_both_views(monkeypatch):
    calls = []
    monkeypatch.setattr(views, "corrupt", lambda crops, _, views: calls.append((len(crops), views)) or crops)
    TwoViews()({"image": crops(samples=2)})
    assert calls == [(4, 2)]


def test_the_batch_is_not_changed():
    given = crops()
    before = given.clone()
    batch = {"image": given, "subject": ["a", "b", "c"]}
    TwoViews()(batch)
    assert batch["image"] is given
    assert torch.equal(given, before)
    assert list(batch) == ["image", "subject"]


def test_meta_tensors_come_out_plain():
    inputs, target = TwoViews()({"image": MetaTensor(crops())})
    plain, _ = TwoViews()({"image": crops()})
    assert type(inputs) is type(target["reconstruction"]) is type(target["rotation"]) is torch.Tensor
    assert torch.equal(inputs, plain)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions(dtype):
    given = crops(side=16, depth=16).to(dtype)
    inputs, target = TwoViews()({"image": given})
    assert inputs.dtype == target["reconstruction"].dtype == dtype
    assert torch.isfinite(inputs).all()
    assert (inputs != target["reconstruction"]).any()
    span = given.double().max() - given.double().min()
    assert inputs.double().min() >= given.double().min() - 0.01 * span
    assert inputs.double().max() <= given.double().max() + 0.01 * span


# The generator


def run_of(made, batches=3):
    return [made({"image": crops(seed=number)})[0] for number in range(batches)]


def equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_the_seed_decides():
    assert equal(run_of(TwoViews(seed=5)), run_of(TwoViews(seed=5)))
    assert not equal(run_of(TwoViews(seed=5)), run_of(TwoViews(seed=6)))
    first, second = TwoViews(seed=5), TwoViews(seed=5)
    batch = {"image": crops()}
    assert not torch.equal(first(batch)[0], first(batch)[0])  # a second call gives other views
    torch.manual_seed(99)
    torch.rand(7)
    assert torch.equal(second(batch)[0], TwoViews(seed=5)(batch)[0])


def test_the_global_generator_is_not_used():
    state = torch.get_rng_state()
    run_of(TwoViews())
    assert torch.equal(torch.get_rng_state(), state)


def test_an_engine_sees_the_same_views_in_every_run():
    made = TwoViews(seed=3)
    seen = []
    engine = Engine(lambda _, batch: seen.append(made(batch)[0]))
    made.attach(engine)
    for _ in range(2):
        engine.run([{"image": crops(seed=number)} for number in range(3)])
    assert equal(seen[:3], seen[3:])
    assert not torch.equal(seen[0], seen[1])


def test_a_state_resumes_exactly(tmp_path):
    straight = run_of(TwoViews(seed=3), batches=4)
    stopped = TwoViews(seed=3)
    run_of(stopped, batches=2)
    torch.save(stopped.state_dict(), tmp_path / "views.pt")
    resumed = TwoViews(seed=77)
    run_of(resumed, batches=1)
    resumed.load_state_dict(torch.load(tmp_path / "views.pt", weights_only=True))
    assert equal([resumed({"image": crops(seed=number)})[0] for number in (2, 3)], straight[2:])


def test_a_state_is_a_plain_tensor_on_the_host():
    made = TwoViews(seed=3)
    before = made.state_dict()
    run_of(made, batches=1)
    after = made.state_dict()
    assert set(before) == set(after) == {"generator"}
    assert before["generator"].device.type == "cpu"
    assert type(after["generator"]) is torch.Tensor
    assert not torch.equal(before["generator"], after["generator"])  # a state is a copy


def test_a_state_from_before_the_first_batch_is_the_beginning():
    resumed = TwoViews(seed=3)
    resumed.load_state_dict(TwoViews(seed=3).state_dict())
    assert equal(run_of(resumed), run_of(TwoViews(seed=3)))
