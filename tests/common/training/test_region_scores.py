import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import DataLoader, MetaTensor, list_data_collate
from monai.engines import SupervisedEvaluator

from common import metrics
from common.training.handlers import RegionScores
from tests.oracles.volumes import dice

ROOT = Path(__file__).parents[3]
REGIONS = ("TC", "WT", "ET")


def drawn(regions, cases, seed=0):
    """Predictions and references, each a list of masks [R, x, y, z]."""
    return np.random.default_rng(seed).random((2, cases, regions, 4, 5, 3)) < 0.4


def evaluate(scores, predictions, references, affine=None, names=None):
    """The evaluator's state after these cases, in batches of two."""
    cases = [
        {
            "image": torch.as_tensor(prediction).float(),
            "label": MetaTensor(torch.as_tensor(reference).float(), affine=torch.eye(4) if affine is None else affine),
            "subject": names[number] if names else f"case{number}",
        }
        for number, (prediction, reference) in enumerate(zip(predictions, references, strict=True))
    ]
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(cases, batch_size=2, collate_fn=list_data_collate),
        network=torch.nn.Identity(),
        key_val_metric={"dice": scores},
    )
    evaluator.run()
    return evaluator.state


def test_dice_of_each_region_is_that_of_loops_over_voxels():
    predictions, references = drawn(3, 5)
    state = evaluate(RegionScores("brats2021"), predictions, references)
    expected = np.array([[dice(p[r], t[r]) for r in range(3)] for p, t in zip(predictions, references, strict=True)])
    details = state.metric_details["dice"]
    assert list(details) == [f"case{number}" for number in range(5)]
    found = [[scores[region].values["dice"] for region in REGIONS] for scores in details.values()]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    means = dict(zip(REGIONS, expected.mean(axis=0), strict=True))
    assert state.metrics == pytest.approx({**means, "dice": expected.mean()}, rel=1e-12)
    assert {type(value) for value in state.metrics.values()} == {float}, (
        "a checkpoint holds them, without NumPy's types"
    )


def test_empty_masks():
    empty, full = np.zeros((1, 4, 4, 4), dtype=bool), np.ones((1, 4, 4, 4), dtype=bool)
    state = evaluate(RegionScores("atlas"), [empty, full, empty, full], [empty, empty, full, full])
    found = [scores["lesion"].values["dice"] for scores in state.metric_details["dice"].values()]
    assert found == [1, 0, 0, 1]
    assert state.metrics["lesion"] == 0.5, "no case is left out of the mean"


def test_each_figure_of_the_protocol_has_its_mean():
    predictions, references = drawn(1, 3, seed=1)
    state = evaluate(RegionScores("atlas", "atlas"), predictions, references)
    each = [metrics.atlas(p[0], t[0]).values for p, t in zip(predictions, references, strict=True)]
    expected = {f"lesion_{name}": np.mean([values[name] for values in each]) for name in each[0] if name != "dice"}
    overlap = np.mean([values["dice"] for values in each])
    assert state.metrics == pytest.approx(expected | {"lesion": overlap, "dice": overlap}, rel=1e-12)


def test_volumes_and_distances_are_in_the_spacing_of_the_label():
    predictions, references = drawn(1, 1, seed=2)
    turned = torch.tensor([[0, -0.7, 0, 3], [2, 0, 0, 5], [0, 0, 3, 7], [0, 0, 0, 1.0]])  # x and y of the file change
    state = evaluate(RegionScores("atlas", "isles"), predictions, references, turned)
    expected = metrics.isles(predictions[0, 0], references[0, 0], (2, 0.7, 3))
    assert state.metric_details["dice"]["case0"]["lesion"] == expected


def test_a_protocol_can_be_given_with_its_settings():
    predictions, references = drawn(3, 1, seed=3)
    state = evaluate(RegionScores("brats2023", metrics.protocol("brats", "MET")), predictions, references)
    expected = metrics.brats(predictions[0, 1], references[0, 1], challenge="MET").values
    assert state.metric_details["dice"]["case0"]["WT"].values == expected
    assert state.metrics["WT_lesionwise_dice"] == expected["lesionwise_dice"]


def test_each_run_begins_anew():
    scores = RegionScores("atlas")
    evaluate(scores, *drawn(1, 4))
    predictions, references = drawn(1, 2, seed=5)
    assert len(evaluate(scores, predictions, references).metric_details["dice"]) == 2


SHARE = """
import json, sys
import torch.distributed as dist
from common.training.handlers import RegionScores
from tests.common.training.test_region_scores import drawn, evaluate
folder, rank = sys.argv[1], int(sys.argv[2])
dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
predictions, references = drawn(3, 5)
mine = [[0, 2, 3, 4], [1, 4]][rank]  # another number each, and a case that both have
names = [f"case{number}" for number in mine]
state = evaluate(RegionScores("brats2021", "brats"), predictions[mine], references[mine], names=names)
print(json.dumps([state.metrics, list(state.metric_details["dice"])]))
dist.destroy_process_group()
"""


def test_processes_with_uneven_shares_measure_what_one_process_measures(tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SHARE, tmp_path, str(rank)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for rank in range(2)
    ]
    printed = [process.communicate(timeout=120) for process in processes]
    alone = evaluate(RegionScores("brats2021", "brats"), *drawn(3, 5))
    for process, (out, err) in zip(processes, printed, strict=True):
        assert process.returncode == 0, err.decode()
        measured, cases = json.loads(out)
        assert measured == pytest.approx(alone.metrics, rel=1e-12)
        assert cases == [f"case{number}" for number in range(5)]


@pytest.mark.parametrize("name", ["dice", "atlas", "isles", "brats"])
def test_figures_are_plain_numbers(name):
    protocol = metrics.protocol(name, tolerance=1.0)
    predictions, references = drawn(1, 1)
    for prediction in (predictions[0, 0], np.zeros_like(predictions[0, 0])):
        scores = protocol.measure(prediction, references[0, 0], (1.0, 1.0, 2.0))
        lesions = [value for lesion in scores.lesions for value in (lesion.volume, lesion.dice, lesion.hd95)]
        assert {type(value) for value in [*scores.values.values(), *scores.volumes, *lesions]} == {float}
