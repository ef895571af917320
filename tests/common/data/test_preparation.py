"""Measure the preparation of scans, and refuse differences from the training data."""

import numpy as np
import pytest

from common.data.preparation import (
    PREPARATION_CHECKS,
    differences,
    measure,
    union,
)


def ball(shape=(40, 40, 40), radius=15, shift=0):
    grid = np.indices(shape) - np.array([edge // 2 for edge in shape])[:, None, None, None]
    inside = (grid**2).sum(axis=0) < radius**2
    return np.roll(inside, shift, axis=0).astype(np.float32)


def ranges(**changes):
    figures = {"spacing": [1.0, 1.0, 1.0], "extent": [140.0, 170.0, 140.0], "volume": 1.9, "air": 0.0, "overlap": 0.99}
    return {name: [changes.get(name, value)] * 2 for name, value in figures.items()}


def test_figures_of_a_ball_of_known_size():
    image, affine = np.stack([100 * ball(), 7 * ball(shift=1)]), np.diag([2.0, 1.0, 3.0, 1.0])
    figures = measure(image, affine)
    assert figures["spacing"] == [[2, 1, 3]] * 2
    assert figures["extent"] == [[30 * 2, 29, 29 * 3]] * 2  # 29 voxels across; the second channel is one further
    assert figures["volume"] == [round(ball().sum() * 6 / 1e6, 3)] * 2
    assert figures["air"] == [0, 0]
    assert figures["overlap"] == [round(2 * (image[0] * image[1] > 0).sum() / (image > 0).sum(), 3)] * 2


@pytest.mark.parametrize(
    ("changes", "check", "text"),
    [
        ({"spacing": [1.0, 1.0, 0.9]}, "spacing", "voxels of 1 x 1 x 0.9 mm; expected 1 x 1 x 1 mm"),
        ({"volume": 3.7}, "skull", "whole heads (3.7 L above zero); expected brains without skull"),
        ({"extent": [140.0, 170.0, 100.0]}, "extent", "extends over 140 x 170 x 100 mm; expected 140 x 170 x 140 mm"),
        ({"extent": [140.0, 230.0, 140.0]}, "extent", "extends over"),
        ({"air": 0.3}, "air", "30% of the volume's border is not 0, where air should be; expected 0%"),
        ({"overlap": 0.85}, "alignment", "modalities' brains overlap by Dice 0.85; expected 0.9 or more"),
    ],
)
def test_each_check_finds_its_difference_alone(changes, check, text):
    within = {"spacing": [1.05, 0.95, 1.0], "volume": 2.4, "extent": [110.0, 200.0, 120.0], "air": 0.15}
    assert differences(ranges(overlap=0.96, **within), ranges(), "a.nii") == {}
    problems = differences(ranges(**changes), ranges(), "a.nii")
    assert problems.keys() == {check} <= set(PREPARATION_CHECKS)
    assert text in str(problems[check])


def test_ranges_that_span_several_scans_widen_what_is_expected():
    expected = union([ranges(), ranges(spacing=[3.0, 1.0, 1.0], volume=3.5)])
    assert expected["spacing"] == [[1, 1, 1], [3, 1, 1]]
    assert differences(ranges(spacing=[2.0, 1.0, 1.0]), expected, "a.nii") == {}
    assert differences(ranges(volume=4.0), expected, "a.nii") == {}  # brains and heads: a head is no difference
    assert differences(ranges(spacing=[2.0, 2.0, 1.0]), expected, "a.nii").keys() == {"spacing"}
    head = ranges(volume=4.0, extent=[200.0, 240.0, 240.0])
    assert differences(head, ranges(), "a.nii").keys() == {"skull"}  # its box is not held against that of a brain
    strange = ranges(spacing=[9.0, 9.0, 9.0], volume=9.0, air=1.0, overlap=0.5)
    assert differences(strange, None, "a.nii").keys() == {"alignment"}  # without a checkpoint nothing else is checked
