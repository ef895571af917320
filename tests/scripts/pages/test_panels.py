"""Panels: which voxels they show, which way up, in which greys, and where outlines are."""

import numpy as np

from common.training.pictures import plane_of
from scripts.pages.panels import panel


def test_planes_are_seen_as_in_radiology():
    volume = np.arange(10 * 12 * 8).reshape(10, 12, 8)
    for plane, expected in (("axial", volume[:, :, 2]), ("coronal", volume[:, 2]), ("sagittal", volume[2])):
        rotated = np.rot90(expected)  # superior, or anterior in an axial slice, is at the top
        np.testing.assert_array_equal(plane_of(volume, plane, 2), np.fliplr(rotated))  # right, or anterior, on the left


def test_the_patients_sides_are_marked():
    levels = np.zeros((40, 40, 40), np.uint8)
    for plane in ("axial", "coronal", "sagittal"):
        marked = panel(levels, plane, 20, (1, 1, 1), {}, 80)[..., 0] > 0
        assert not marked[40:].any()
        halves = (marked[:, :40], marked[:, 40:]) if plane != "sagittal" else (marked[:, 40:], marked[:, :40])
        first, other = (half[half.any(axis=1)].sum(axis=1) for half in halves)  # R and L; P, on the right, and A
        assert first[0] > other[0], "the bar of an R or a P is at its top; that of an L at its bottom, an A has a tip"
        assert first[-1] < other[-1], "an L has its bar, an A two legs at the bottom"
