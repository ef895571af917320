"""Scores of regions, against MONAI's means and one process with all cases."""

import numpy as np
import pytest
import torch
from monai.data import DataLoader, MetaTensor, list_data_collate
from monai.engines import SupervisedEvaluator
from monai.metrics import DiceMetric

from common import metrics
from common.inference.scores import RegionScores
from tests.common.training.ranks import on_two_ranks

REGIONS = ("TC", "WT", "ET")


def drawn(regions, cases, seed=0):
    """Predictions and references, each a list of masks [R, x, y, z]."""
    return np.random.default_rng(seed).random((2, cases, regions, 4, 5, 3)) < 0.4


def with_gaps():
    """Five cases, two without ET and all without TC, with a false voxel of ET and one of TC."""
    predictions, references = drawn(3, 5, seed=4)
    references[:, 0] = predictions[1:, 0] = False
    references[[1, 4], 2] = predictions[[1, 4], 2] = False
    predictions[4, 2, 0, 0, 0] = True
    return predictions, references


def evaluate(scores, predictions, references, affine=None, numbers=None):
    """The evaluator's state after these cases, in batches of two."""
    affine, numbers = torch.eye(4) if affine is None else affine, numbers or range(len(references))
    cases = [
        {
            "image": torch.as_tensor(prediction).float(),
            "label": MetaTensor(torch.as_tensor(reference).float(), affine=affine),
            "subject": f"case{number}",
        }
        for number, prediction, reference in zip(numbers, predictions, references, strict=True)
    ]
    loader = DataLoader(cases, batch_size=2, collate_fn=list_data_collate)
    network, metric = torch.nn.Identity(), {"dice": scores}
    evaluator = SupervisedEvaluator(torch.device("cpu"), loader, network, key_val_metric=metric)
    evaluator.run()
    return evaluator.state


@pytest.mark.parametrize("cohort", [with_gaps(), (drawn(3, 2)[0], drawn(3, 2)[1] & False)])
def test_means_are_those_of_monai(cohort):
    """Over all cases, and over the cases with the region; MONAI's mean is 0 for a region without cases."""
    computed = evaluate(RegionScores("brats2021"), *cohort).metrics
    means = {}
    for ignore_empty in (False, True):
        metric = DiceMetric(reduction="mean_batch", get_not_nans=True, ignore_empty=ignore_empty)
        metric(*(torch.as_tensor(masks).float() for masks in cohort))
        means[ignore_empty], counts = (values.numpy() for values in metric.aggregate())
    np.testing.assert_allclose([computed[region] for region in REGIONS], means[False], rtol=1e-6)
    assert computed["dice"] == pytest.approx(means[False][counts > 0 if counts.any() else ...].mean(), rel=1e-6)
    assert [computed[f"{region}_n_present"] for region in REGIONS] == counts.tolist()
    present = np.where(counts > 0, means[True], np.nan)
    np.testing.assert_allclose([computed[f"{region}_dice_present"] for region in REGIONS], present, rtol=1e-6)
    mean = present[counts > 0].mean() if counts.any() else np.nan
    assert computed["dice_present"] == pytest.approx(mean, rel=1e-6, nan_ok=True)
    assert [name for name in computed if "_" not in name] == ["dice", "WT", "TC", "ET"], "headline, display order"


def evaluate_a_share(rank):
    predictions, references = with_gaps()
    mine = [[0, 2, 3, 4], [1, 4]][rank]  # another number each, and a case that both have
    state = evaluate(RegionScores("brats2021", "brats"), predictions[mine], references[mine], numbers=mine)
    return state.metrics, list(state.metric_details["dice"])


def test_processes_with_uneven_shares_measure_what_one_process_measures(tmp_path):
    """In the spacing of the label, whose file has x and y turned."""
    turned = torch.tensor([[0, -0.7, 0, 3], [2, 0, 0, 5], [0, 0, 3, 7], [0, 0, 0, 1.0]])
    predictions, references = drawn(1, 1, seed=2)
    state = evaluate(RegionScores("atlas", "isles"), predictions, references, turned)
    expected = metrics.protocol("isles").measure(predictions[0, 0], references[0, 0], (2, 0.7, 3))
    assert state.metric_details["dice"]["case0"]["lesion"] == expected
    alone = evaluate(RegionScores("brats2021", "brats"), *with_gaps()).metrics
    for measured, cases in on_two_ranks(evaluate_a_share, tmp_path):
        assert measured == pytest.approx(alone, rel=1e-12, nan_ok=True)
        assert cases == [f"case{number}" for number in range(5)]
