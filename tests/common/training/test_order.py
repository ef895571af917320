from itertools import islice

import pytest
import torch
from monai.data import DataLoader
from monai.transforms import Compose, RandSpatialCropSamplesd

from common.data.datasets import CaseDataset
from common.training.order import CaseSampler, Steps, fixed_draws

VOLUMES = [{"subject": f"case{n}", "image": torch.arange(n, n + 8000.0).reshape(1, 20, 20, 20)} for n in range(7)]


def steps_of(num_workers=0, cache_rate=0.0, seed=0):
    """Return steps of batches with two crops from each of three volumes."""
    crops = RandSpatialCropSamplesd("image", roi_size=(4, 4, 4), num_samples=2)
    dataset = CaseDataset(VOLUMES, Compose([crops]), cache_rate)
    loader = DataLoader(dataset, batch_size=3, sampler=CaseSampler(VOLUMES, seed), num_workers=num_workers)
    return Steps(loader, accumulation_steps=2)


def read(steps, number):
    """Return the subjects and images of each step."""
    made = [list(step) for step in islice(map(list, steps), number)]
    return [[(tuple(batch["subject"]), batch["image"].as_tensor()) for batch in step] for step in made]


def equal(steps, expected):
    return all(
        a[0] == b[0] and torch.equal(a[1], b[1])
        for mine, theirs in zip(steps, expected, strict=True)
        for a, b in zip(mine, theirs, strict=True)
    )


@pytest.mark.parametrize(("num_workers", "cache_rate"), [(0, 0.0), (2, 0.0), (0, 1.0)])
def test_crops_of_a_volume_belong_to_the_seed_and_the_volumes_position(num_workers, cache_rate):
    whole = read(steps_of(), 6)
    for done in (1, 4):
        later = steps_of(num_workers, cache_rate)
        later.begin_after(done)
        assert equal(read(later, 6 - done), whole[done:])
    subjects = [subject for step in whole for names, _ in step for subject in names]
    assert subjects[::2] == subjects[1::2]
    volumes = subjects[::2]
    passes = {tuple(volumes[start : start + 7]) for start in range(0, 35, 7)}
    assert len(passes) == 5
    assert all(len({*order}) == 7 for order in passes)
    assert read(steps_of(seed=1), 1)[0][0][0] != whole[0][0][0]
    crops = torch.cat([image.flatten(1) for step in whole for _, image in step])
    assert len(crops.unique(dim=0)) > 0.95 * len(crops)  # 17^3 places in each of seven volumes


def test_a_subjects_fixed_crop_depends_on_its_name_and_the_seed_alone():
    def crops(volumes, seed=0):
        dataset = CaseDataset(volumes, Compose([RandSpatialCropSamplesd("image", roi_size=(4, 4, 4), num_samples=1)]))
        loader = DataLoader(dataset, batch_size=2, sampler=fixed_draws(dataset, seed))
        return {name: image for batch in loader for name, image in zip(batch["subject"], batch["image"], strict=True)}

    everyone, some = crops(VOLUMES), crops(VOLUMES[::-2])
    assert len(everyone) == 7
    assert all(torch.equal(everyone[name], some[name]) for name in some)
    corners = [int(image.min()) - int(name[-1:]) for name, image in everyone.items()]  # voxel numbers within a volume
    assert len(set(corners)) == 7
    assert not any(torch.equal(everyone[name], image) for name, image in crops(VOLUMES, seed=1).items())


@pytest.mark.parametrize("batch_size", [2, 4])
def test_no_batch_has_two_cases_of_a_person_and_each_pass_has_every_case(batch_size):
    """People with one to five scans; batches run on from pass to pass, and a resumed order agrees."""
    people = [f"P{number}" for number in range(15) for _ in range(1 + number % 5)]
    sampler = CaseSampler(people, seed=3, people=people, batch_size=batch_size)
    draws = [*islice(sampler, 5 * len(people))]
    order = [people[draw] for draw in draws]
    batches = [order[start : start + batch_size] for start in range(0, len(order) - batch_size, batch_size)]
    assert all(len({*batch}) == batch_size for batch in batches)
    assert all(sorted(draws[start : start + 45]) == [*range(45)] for start in range(0, len(draws), 45))
    sampler.position = 103
    assert [*islice(sampler, 50)] == draws[103:153]
    data = CaseDataset([{"subject": f"S{n}", "image": "x.nii"} for n in range(len(people))], Compose([]))
    fixed = [people[draw] for draw in fixed_draws(data, people=people, batch_size=batch_size)]
    assert all(len({*fixed[at : at + batch_size]}) == batch_size for at in range(0, 45 - batch_size, batch_size))


def test_people_with_one_scan_each_keep_the_order_of_a_sampler_without_people():
    people = [f"P{number}" for number in range(7)]
    assert [*islice(CaseSampler(people, 1, people, 3), 30)] == [*islice(CaseSampler(people, 1), 30)]
