import subprocess
import sys
from collections import Counter
from itertools import islice
from types import SimpleNamespace

import pytest
import torch
from monai.data import DataLoader
from monai.transforms import Compose, RandGaussianNoised, RandShiftIntensityd

from common.datasets import CaseDataset, CaseSampler, Steps, files_of, share
from common.preflight import InputError

CASES = [{"subject": f"case{n}", "image": torch.zeros(1, 4)} for n in range(7)]


def dataset(cache_rate=0.0):
    random = [RandGaussianNoised("image", prob=1.0), RandShiftIntensityd("image", offsets=1.0, prob=1.0)]
    return CaseDataset(CASES, Compose(random), cache_rate)


def steps_of(seed=0, num_workers=0, accumulation_steps=2, batch_size=3, cache_rate=0.0):
    sampler = CaseSampler(len(CASES), seed)
    loader = DataLoader(dataset(cache_rate), batch_size=batch_size, sampler=sampler, num_workers=num_workers)
    return Steps(loader, accumulation_steps)


def read(steps, count):
    """Subjects and images of each step."""
    made = [list(step) for step in islice(map(list, steps), count)]
    return [[(tuple(batch["subject"]), batch["image"].as_tensor()) for batch in step] for step in made]


def equal(one, other):
    return all(
        a[0] == b[0] and torch.equal(a[1], b[1])
        for mine, theirs in zip(one, other, strict=True)
        for a, b in zip(mine, theirs, strict=True)
    )


def test_every_pass_is_a_permutation_and_another_one():
    drawn = [draw.case for draw in islice(CaseSampler(7, seed=1), 70)]
    passes = [tuple(drawn[start : start + 7]) for start in range(0, 70, 7)]
    assert all(sorted(one) == list(range(7)) for one in passes)
    assert len(set(passes)) == 10


def test_orders_are_uniform():
    firsts = Counter(next(iter(CaseSampler(5, seed))).case for seed in range(1000))
    assert all(abs(count - 200) < 60 for count in firsts.values())  # 4.7 standard deviations
    assert len(firsts) == 5


def test_what_is_drawn_belongs_to_the_seed_and_the_position():
    whole = list(islice(CaseSampler(7, seed=1), 40))
    assert list(islice(CaseSampler(7, seed=1), 40)) == whole
    assert list(islice(CaseSampler(7, seed=2), 40)) != whole
    assert len({draw.seed for draw in whole}) == 40
    for position in (1, 7, 13, 14):
        sampler = CaseSampler(7, seed=1)
        sampler.position = position
        assert list(islice(sampler, 40 - position)) == whole[position:]


@pytest.mark.parametrize("cache_rate", [0.0, 1.0])
def test_random_transforms_belong_to_the_seed_and_the_position(cache_rate):
    whole = read(steps_of(cache_rate=cache_rate), 6)
    later = steps_of(cache_rate=cache_rate)
    later.begin_after(4)
    assert equal(read(later, 2), whole[4:])
    values = torch.cat([image.flatten() for step in whole for _, image in step])
    assert len(values.unique()) == len(values)


def test_workers_change_nothing():
    assert equal(read(steps_of(num_workers=2), 4), read(steps_of(), 4))


def test_a_step_has_its_batches_and_reads_them_one_after_the_other():
    steps = iter(steps_of(accumulation_steps=3))
    first = next(steps)
    assert len(first) == 3
    assert [len(batch["subject"]) for batch in first] == [3, 3, 3]
    assert len(list(next(steps))) == 3


def test_files_are_found_by_subject():
    data = [
        {"subject": "a", "image": ["a1", "a2"], "label": "a3"},
        {"subject": "b", "image": ["b1", "b1"]},
        {"subject": "c", "image": ["c1"], "label": None},
    ]
    cases = SimpleNamespace(data=data)
    assert files_of(cases, ["c", "a", "a"]) == ["a1", "a2", "a3", "c1"]
    assert files_of(cases, ["b", "x"]) == ["b1"]


@pytest.mark.parametrize("processes", [1, 2, 3, 7])
def test_processes_share_the_cases(processes):
    parts = [share(CASES, rank, processes, "training") for rank in range(processes)]
    subjects = [case["subject"] for part in parts for case in part]
    assert sorted(subjects) == [case["subject"] for case in CASES]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_fewer_cases_than_processes_are_refused():
    with pytest.raises(InputError, match="split validation: 7 cases for 8 processes; expected one each at least"):
        share(CASES, 0, 8, "validation")


CACHING = """
import sys
from pathlib import Path
import torch
from monai.transforms import Compose, Lambdad
from common.datasets import CaseDataset, share
rank, processes = int(sys.argv[1]), int(sys.argv[2])
cases = [{"subject": str(n), "image": ["file"]} for n in range(16)]
read = Lambdad("image", lambda _: torch.ones(2**21))  # 8 MiB a case
memory = lambda: int(Path("/proc/self/statm").read_text().split()[1]) * 4  # KiB
before = memory()
dataset = CaseDataset(share(cases, rank, processes, "training"), Compose([read]), cache_rate=1.0)
print(memory() - before)
"""


def test_what_processes_cache_together_is_the_cohort_once():
    def cached(processes):
        commands = [[sys.executable, "-c", CACHING, str(rank), str(processes)] for rank in range(processes)]
        grown = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for command in commands]
        return sum(map(int, grown)) / 1024  # MiB

    assert cached(1) == pytest.approx(128, rel=0.15)
    assert cached(4) == pytest.approx(128, rel=0.15)
