import math
import random
from collections import Counter

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from scipy import stats

from common import views
from common.views import TwoViews
from tests.oracles import corruption, volumes


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def crops(samples=3, channels=2, side=12, depth=10, seed=0):
    return torch.randn(samples, channels, side, side, depth, generator=generator(seed))


@pytest.fixture
def no_boxes(monkeypatch):
    monkeypatch.setattr(views, "boxes", lambda count, *_: torch.zeros(2, count, 0, 3, dtype=torch.int64))


def given_boxes(monkeypatch, *drawn):
    """Let `corrupt` get these boxes (start, edges) of each crop, for the noise and for the swap, not drawn ones."""
    remaining = [
        torch.tensor([boxes + [((0, 0, 0), (0, 0, 0))] * (max(map(len, crops)) - len(boxes)) for boxes in crops])
        .reshape(len(crops), -1, 2, 3)
        .unbind(2)
        for crops in drawn
    ]
    monkeypatch.setattr(views, "boxes", lambda *_: remaining.pop(0))


def listed(starts, edges):
    """Boxes (start, edges) of each crop, without those that hold no voxel."""
    return [
        [(tuple(a), tuple(b)) for a, b in zip(start, edge, strict=True) if all(b)]
        for start, edge in zip(starts.tolist(), edges.tolist(), strict=True)
    ]


def volumes_of(boxes):
    return [math.prod(edges) for _, edges in boxes]


@pytest.fixture
def drawn(monkeypatch):
    """What `corrupt` draws, as it draws it: boxes (for noise, for the swap), noise, partners."""
    record = {"boxes": [], "_noise": [], "_partners": [], "order": []}

    def recorded(name, function):
        def call(*arguments):
            result = function(*arguments)
            record[name].append(result)
            return result

        return call

    for name in ("boxes", "_noise", "_partners"):
        monkeypatch.setattr(views, name, recorded(name, getattr(views, name)))

    def of(crops, crop, starts, edges, of=views._Voxels.of):
        record["order"].append((crop, starts, edges))
        return of(crops, crop, starts, edges)

    monkeypatch.setattr(views._Voxels, "of", of)
    return record


# Rotation


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_turned_about_z_voxel_by_voxel(turns):
    given = crops(samples=1, side=5, depth=3)
    turned = views.rotate(given, torch.tensor([turns]))
    for channel in range(2):
        expected = volumes.quarter_turn(given[0, channel].numpy(), turns)
        np.testing.assert_array_equal(turned[0, channel].numpy(), expected)


def test_each_crop_is_turned_by_its_own_number():
    given = crops(samples=5)
    turns = [2, 0, 3, 1, 1]
    turned = views.rotate(given, torch.tensor(turns))
    for crop, result, turn in zip(given, turned, turns, strict=True):
        np.testing.assert_array_equal(result.numpy(), np.rot90(crop.numpy(), turn, axes=(1, 2)))


def test_crops_that_cannot_be_turned_are_refused():
    given = torch.zeros(1, 1, 8, 6, 8)
    with pytest.raises(ValueError, match=r"\(8, 6, 8\) voxels: expected x and y equally long"):
        views.rotate(given, torch.tensor([0]))
    with pytest.raises(ValueError, match="expected x and y equally long"):
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
        assert (start + edge).max() == side  # cut there, not moved back
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
def test_corruption_is_that_of_one_box_after_the_other(samples, channels, side, depth, dtype, drawn):
    given = crops(2 * samples, channels, side, depth) * torch.tensor([1.0, 30.0, 0.1, 5.0])[:channels, None, None, None]
    given = (given + 3.0).to(dtype)
    before = given.clone()
    made = views.corrupt(given, generator(4), 2)
    assert torch.equal(given, before)
    dropped, swapped = (listed(*boxes) for boxes in drawn["boxes"])
    (noise,), (partners,) = drawn["_noise"], drawn["_partners"]
    order = [(int(crop), (tuple(a), tuple(b))) for crop, a, b in zip(*(v.tolist() for v in drawn["order"][0]))]  # noqa: B905
    parts = noise.double().split([math.prod(edges) for _, (_, edges) in order], dim=1)
    noise = {key: part.reshape(channels, *key[1][1]).numpy() for key, part in zip(order, parts, strict=True)}
    assert Counter(order) == Counter((number, box) for number, boxes in enumerate(dropped) for box in boxes)
    assert len(noise) == len(order)
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
        assert (share.amin(dim=1) > 1e-5).sum() == 3  # the other channels do not reach it
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
    np.testing.assert_allclose(one, other, rtol=0.05)  # as broad in each channel of a sample


def test_noise_stays_in_its_box(monkeypatch):
    given = crops()
    box = ((2, 3, 1), (3, 3, 8))
    given_boxes(monkeypatch, [[box], [], []], [[]] * 3)
    changed = views.corrupt(given, generator(9)) != given
    expected = torch.zeros_like(changed)
    expected[0][corruption.inside(box)] = True
    assert torch.equal(changed, expected)


def test_where_boxes_overlap_the_later_one_is_seen(monkeypatch):
    given = crops(samples=1, channels=1)
    boxes = [((1, 1, 1), (6, 6, 6)), ((9, 9, 2), (2, 2, 2)), ((4, 4, 4), (6, 6, 5)), ((5, 5, 5), (2, 2, 2))]
    given_boxes(monkeypatch, [boxes], [[]])
    inside = views.corrupt(given, generator(3))[0][corruption.inside(boxes[-1])]
    assert (inside.min(), inside.max()) == (given.min(), given.max())  # the last is whole, so it has both extremes


def test_boxes_that_overlap_are_never_written_at_once(monkeypatch):
    """On a GPU it would be open which of two values written to one place at once is seen."""
    written, scatter = [], torch.Tensor.scatter_
    monkeypatch.setattr(views, "_swap", lambda *_: None)
    monkeypatch.setattr(
        torch.Tensor,
        "scatter_",
        lambda self, dim, place, values: written.append(place) or scatter(self, dim, place, values),
    )
    views.corrupt(crops(samples=4, channels=1, side=24, depth=24), generator())
    assert len(written) > 2
    assert all(len(place.unique()) == len(place) for place in written)
    assert len(torch.cat(written).unique()) < sum(map(len, written))  # there are overlaps


def test_a_box_of_one_value_is_as_dark_as_the_crop(monkeypatch):
    given = crops(channels=1)
    given_boxes(monkeypatch, [[((2, 3, 4), (1, 1, 1))]] * 3, [[]] * 3)
    made = views.corrupt(given, generator())
    assert torch.equal(made[:, 0, 2, 3, 4], given.amin(dim=(1, 2, 3, 4)))


def test_a_constant_channel_stays_so():
    given = crops(samples=2, channels=2, side=20, depth=20)
    given[:, 1] = 7.25
    made = views.corrupt(given, generator())
    assert torch.equal(made[:, 1], given[:, 1])
    assert (made[:, 0] != given[:, 0]).any()


def test_swapped_voxels_are_those_of_the_partner_with_its_noise(monkeypatch):
    samples = 4
    given = torch.rand(samples, 2, 8, 8, 8, generator=generator())
    given += 10.0 * torch.arange(samples).view(-1, 1, 1, 1, 1)  # tells whose a voxel is
    given += torch.tensor([0.0, 1000.0]).view(1, 2, 1, 1, 1)  # and of which channel
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
def test_partners_are_of_the_same_view(samples):
    """The positive of the contrastive task is never copied."""
    partners = torch.stack([views._partners(samples, 2, one) for one in [generator(1)] for _ in range(600)])
    first, second = partners.chunk(2, dim=1)
    assert set(first.unique().tolist()) == set(range(samples))
    assert set(second.unique().tolist()) == set(range(samples, 2 * samples))
    if samples > 1:
        pairs = Counter(zip(first[:, 0].tolist(), second[:, 0].tolist(), strict=True))
        assert stats.chisquare([pairs[a, b] for a in range(3) for b in range(3, 6)]).pvalue > 1e-3


def test_a_batch_of_one_is_never_swapped(monkeypatch):
    monkeypatch.setattr(views, "_fill", lambda *_: None)
    given = crops(samples=2, side=20, depth=20)
    assert torch.equal(views.corrupt(given, generator(), 2), given)
    assert not torch.equal(views.corrupt(given, generator(1), 1), given)  # a batch of two is


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
def test_input_is_the_target_where_no_box_is():
    inputs, target = TwoViews()({"image": crops()})
    assert torch.equal(inputs, target["reconstruction"])


def test_input_is_corrupted_in_boxes_of_less_than_the_crop():
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


def test_both_views_are_corrupted_as_such(monkeypatch):
    calls = []
    monkeypatch.setattr(views, "corrupt", lambda crops, _, views: calls.append((len(crops), views)) or crops)
    TwoViews()({"image": crops(samples=2)})
    assert calls == [(4, 2)]


def test_the_batch_is_left_as_it_is():
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
    assert not torch.equal(first(batch)[0], first(batch)[0])  # the same crop is seen differently each time
    torch.manual_seed(99)
    torch.rand(7)
    assert torch.equal(second(batch)[0], TwoViews(seed=5)(batch)[0])


def test_no_other_random_number_is_used_up():
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


def test_a_state_goes_on_exactly(tmp_path):
    straight = run_of(TwoViews(seed=3), batches=4)
    stopped = TwoViews(seed=3)
    run_of(stopped, batches=2)
    torch.save(stopped.state_dict(), tmp_path / "views.pt")
    resumed = TwoViews(seed=77)
    run_of(resumed, batches=1)
    resumed.load_state_dict(torch.load(tmp_path / "views.pt", weights_only=True))
    assert equal([resumed({"image": crops(seed=number)})[0] for number in (2, 3)], straight[2:])


def test_a_state_is_plain_and_of_the_host():
    made = TwoViews(seed=3)
    before = made.state_dict()
    run_of(made, batches=1)
    after = made.state_dict()
    assert set(before) == set(after) == {"generator"}
    assert before["generator"].device.type == "cpu"
    assert type(after["generator"]) is torch.Tensor
    assert not torch.equal(before["generator"], after["generator"])  # a state is no view of the generator


def test_a_state_from_before_the_first_batch_is_the_beginning():
    resumed = TwoViews(seed=3)
    resumed.load_state_dict(TwoViews(seed=3).state_dict())
    assert equal(run_of(resumed), run_of(TwoViews(seed=3)))
