"""The figures that an evaluation's charts draw, against the formulas, the standard library and SciPy; inline SVG."""

import re
import statistics
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from scipy.stats import binomtest

from common.metrics.lesions import Lesion
from common.pages.evaluation_charts import agreement, agreement_chart, detection, detection_chart, scores_chart, wilson


def lesion(volume, found=True, reference=True, scored=True):
    return Lesion(reference, volume, (0, 0, 0), scored, found, 0.5, 1.0)


def path_points(chart):
    """The dots of each of a chart's rows, in its own coordinates: strokes that end where they begin."""
    paths = re.findall(r'<path d="([^"]*)"[^>]*stroke-linecap: round', chart)
    dots = []
    for path in paths:
        points = re.findall(r"M (\S+) (\S+) \s*L \1 \2", path)
        if points:
            dots.append(np.array(points, dtype=float))
    return dots


@pytest.mark.parametrize(("found", "total"), [(0, 1), (8, 10), (1251, 1251)])
def test_wilson_is_the_interval_of_scipy(found, total):
    expected = binomtest(found, total).proportion_ci(method="wilson")
    assert wilson(found, total) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_lesions_are_counted_in_half_decades_of_volume():
    lesions = [
        *(lesion(30.0), lesion(99.9, found=False), lesion(45.0, scored=False)),
        *(lesion(100.0), lesion(5000.0, found=False), lesion(250.0, found=False, reference=False)),
    ]
    bins = detection(lesions)
    assert [(place.low, place.high, place.scored, place.found, place.false) for place in bins] == [
        (30, 100, 2, 1, 0),
        (100, 300, 1, 1, 1),
        (300, 1000, 0, 0, 0),
        (1000, 3000, 0, 0, 0),
        (3000, 10000, 1, 0, 0),
    ]
    assert [place.rate for place in bins] == [0.5, 1.0, None, None, 0.0]
    assert bins[2].interval is None
    assert bins[0].interval == wilson(1, 2)


def test_limits_of_agreement_are_those_of_bland_and_altman():
    pairs = [(1.0, 2.0), (4.0, 3.5), (10.0, 14.0), (0.0, 0.0)]
    differences = [prediction - reference for prediction, reference in pairs]
    bias, reach = statistics.mean(differences), 1.96 * statistics.stdev(differences)
    found = agreement(pairs)
    assert found.bias == pytest.approx(bias)
    assert found.limits == pytest.approx((bias - reach, bias + reach))
    chart = agreement_chart("WT", pairs)
    for value in (bias, bias - reach, bias + reach):
        assert f"{value:+.2f}".replace("-", "−") in chart
    assert agreement([(3.0, 1.0)]) == (2.0, None)
    chart = agreement_chart("lesion", [(3.0, 1.0)])
    assert "+2.00" in chart
    assert "1.96" not in chart


def test_dots_of_agreement_lie_at_mean_and_difference():
    """Horizontal places are proportional to the means, vertical ones fall as the differences rise."""
    pairs = np.array([(1.0, 3.0), (5.0, 1.0), (10.0, 10.0), (4.0, 16.0)])
    (dots,) = path_points(agreement_chart("WT", [tuple(pair) for pair in pairs]))
    for places, values in ((dots[:, 0], pairs.mean(axis=1)), (dots[:, 1], pairs[:, 1] - pairs[:, 0])):
        slope, start = np.polyfit(values, places, 1)
        assert slope > 0
        np.testing.assert_allclose(places, slope * values + start, atol=0.02)


def test_any_values_give_a_chart():
    for values in ([0.0], [0.0, 0.0], [5e6, 0.0], [3.0] * 1251):
        ElementTree.fromstring(scores_chart("difference", "voxels", {"lesion": values}))
    for pairs in ([(0.0, 0.0)], [(0.0, 0.0)] * 3, [(1e-3, 0.0), (2e3, 1e3)]):
        ElementTree.fromstring(agreement_chart("lesion", pairs))
    assert detection([]) == []
    ElementTree.fromstring(detection_chart("WT", []))
