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
from tests.oracles import volumes


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def crops(samples=3, channels=2, side=12, depth=10, seed=0):
    return torch.randn(samples, channels, side, side, depth, generator=generator(seed))


@pytest.fixture
def no_boxes(monkeypatch):
    monkeypatch.setattr(views, "boxes", lambda crops, _: torch.zeros_like(crops[:, :1], dtype=torch.bool))


def given_boxes(monkeypatch, *masks):
    """Let `corrupt` get these masks, for the noise and for the swap, instead of drawn ones."""
    remaining = list(masks)
    monkeypatch.setattr(views, "boxes", lambda *_: remaining.pop(0))


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


def test_a_single_box_has_edges_of_5_to_25_percent_and_lies_anywhere(monkeypatch):
    monkeypatch.setattr(views, "LARGEST_SHARE", 1e-9)  # reached by the first box
    sides = (20, 40, 60)
    masks = views.boxes(torch.zeros(300, 2, *sides), generator()).numpy()
    assert masks.shape == (300, 1, *sides)
    edges, starts, ends = [], [], []
    for mask in masks[:, 0]:
        places = np.argwhere(mask)
        start, end = places.min(axis=0), places.max(axis=0) + 1
        assert len(places) == np.prod(end - start)  # filled: it is a box
        edges.append(end - start)
        starts.append(start)
        ends.append(end)
    for axis, side in enumerate(sides):
        lengths = np.array(edges)[:, axis]
        assert 0.05 * side <= lengths.min() < 0.07 * side
        assert 0.2 * side <= lengths.max() <= 0.25 * side
        assert np.array(starts)[:, axis].min() == 0
        assert np.array(ends)[:, axis].max() == side


def test_boxes_cover_what_boxes_dropped_one_by_one_cover():
    sides = (20, 24, 40)
    drawn = views.boxes(torch.zeros(300, 1, *sides), generator()).flatten(1).float().mean(dim=1).numpy()
    draw = random.Random(0)
    dropped = np.array([volumes.drop_boxes(sides, draw).mean() for _ in range(1500)])
    assert stats.ks_2samp(drawn, dropped).pvalue > 1e-2
    assert drawn.mean() == pytest.approx(dropped.mean(), abs=0.02)
    assert drawn.min() < 0.02
    assert 0.2 < drawn.max() <= 0.3 + 0.25**3  # the largest target and one box more


def test_boxes_cover_each_place_of_the_middle_alike():
    frequency = views.boxes(torch.zeros(1500, 1, 16, 16, 16), generator())[:, 0].float().mean(dim=0)
    middle = frequency[6:10, 6:10, 6:10]
    assert middle.std() / middle.mean() < 0.1


def test_boxes_of_samples_differ():
    masks = views.boxes(torch.zeros(4, 1, 16, 16, 16), generator())
    assert len({tuple(mask.flatten().tolist()) for mask in masks}) == 4


# Corruption


def test_noise_fills_the_boxes_within_the_range_of_crop_and_channel(monkeypatch):
    scale = torch.tensor([[1.0, 50.0], [0.1, 7.0], [3.0, 3.0]]).view(3, 2, 1, 1, 1)
    given = crops(side=16, depth=16) * scale + torch.tensor([0.0, 1000.0]).view(1, 2, 1, 1, 1)
    everything = torch.ones(3, 1, 16, 16, 16, dtype=torch.bool)
    given_boxes(monkeypatch, everything, ~everything)
    noise = views.corrupt(given, generator(9))
    for sample in range(3):
        for channel in range(2):
            made, original = noise[sample, channel].numpy(), given[sample, channel].numpy()
            span = float(original.max() - original.min())
            assert made.min() == pytest.approx(original.min(), abs=1e-4 * span)
            assert made.max() == pytest.approx(original.max(), abs=1e-4 * span)
            assert 0.08 * span < made.std() < 0.2 * span  # a bell of 4096 values, not a box (0.29) nor a constant


def test_noise_stays_in_its_box(monkeypatch):
    given = crops()
    mask = torch.zeros(3, 1, 12, 12, 10, dtype=torch.bool)
    mask[0, :, 2:5, 3:6, 1:9] = True
    given_boxes(monkeypatch, mask, torch.zeros_like(mask))
    noisy = views.corrupt(given, generator(9))
    changed = noisy != given
    assert torch.equal(changed, mask.expand_as(given))


def test_swapped_voxels_are_those_of_the_partner_with_its_noise(monkeypatch):
    samples = 4
    given = torch.rand(samples, 2, 8, 8, 8, generator=generator())
    given += 10.0 * torch.arange(samples).view(-1, 1, 1, 1, 1)  # tells whose a voxel is
    given += torch.tensor([0.0, 1000.0]).view(1, 2, 1, 1, 1)  # and of which channel
    noise, swap = (torch.zeros(samples, 1, 8, 8, 8, dtype=torch.bool) for _ in range(2))
    noise[:, :, 1:4, 1:4, 1:4] = True
    swap[:, :, 3:7, 3:7, 3:7] = True
    swapped = Counter()
    for seed in range(30):
        given_boxes(monkeypatch, noise, swap)
        made = views.corrupt(given, generator(seed))
        assert torch.equal(made[~(noise | swap).expand_as(made)], given[~(noise | swap).expand_as(given)])
        for sample in range(samples):
            inside = made[sample, 0, 3:7, 3:7, 3:7]
            (partner,) = {int(value // 10) for value in inside.flatten().tolist()}
            swapped[sample, partner] += 1
            calm = swap[0] & ~noise[0]
            assert torch.equal(made[sample][calm.expand(2, -1, -1, -1)], given[partner][calm.expand(2, -1, -1, -1)])
            corner = (slice(None), 3, 3, 3)  # in both boxes
            assert not torch.equal(made[sample][corner], given[partner][corner])
            assert torch.equal(made[sample][corner] // 1000, torch.tensor([0.0, 1.0]))
    assert set(swapped) == {(a, b) for a in range(samples) for b in range(samples)}  # the partner may be itself
    assert stats.chisquare(list(swapped.values())).pvalue > 1e-3


def test_a_batch_of_one_is_never_swapped(monkeypatch):
    given = crops(samples=1)
    everything = torch.ones_like(given[:, :1], dtype=torch.bool)
    given_boxes(monkeypatch, ~everything, everything)
    assert torch.equal(views.corrupt(given, generator()), given)


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


def test_swaps_stay_within_a_view(monkeypatch):
    """A sample's partner is another sample of its own view: the positive of the contrastive task is never copied."""
    given = torch.zeros(2, 1, 4, 4, 4)
    sizes = []
    monkeypatch.setattr(views, "corrupt", lambda crops, _: sizes.append(len(crops)) or crops)
    TwoViews()({"image": given})
    assert sizes == [2, 2]


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


def test_a_state_from_before_the_first_batch_is_the_beginning():
    resumed = TwoViews(seed=3)
    resumed.load_state_dict(TwoViews(seed=3).state_dict())
    assert equal(run_of(resumed), run_of(TwoViews(seed=3)))
