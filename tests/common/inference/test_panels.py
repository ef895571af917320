"""Panels: which voxels they show, which way up, in which greys, and where outlines are."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from common.inference.panels import centre_of, grey_levels, panel, plane_of, png, side_by_side

RED = "#d1495b"


def test_planes_are_seen_as_in_radiology():
    volume = np.arange(10 * 12 * 8).reshape(10, 12, 8)
    for plane, expected in (("axial", volume[:, :, 2]), ("coronal", volume[:, 2]), ("sagittal", volume[2])):
        rotated = np.rot90(expected)  # superior, or anterior in an axial slice, is at the top
        np.testing.assert_array_equal(plane_of(volume, plane, 2), np.fliplr(rotated))  # right, or anterior, on the left


def test_background_and_what_is_not_finite_are_black_and_the_window_is_that_of_the_rest():
    volume = np.concatenate([np.zeros(5000), np.linspace(-2, 3, 1000), [np.nan, np.inf]])
    levels = grey_levels(volume)
    assert not levels[:5000].any()
    assert not levels[-2:].any()
    low, high = np.percentile(np.linspace(-2, 3, 1000), (0.5, 99.8))
    expected = np.clip((np.linspace(-2, 3, 1000) - low) / (high - low), 0, 1) * 255
    np.testing.assert_allclose(levels[5000:6000], expected, atol=1)
    assert not grey_levels(np.zeros(3)).any()


def test_a_panel_is_as_large_as_its_slice_in_mm_and_the_outline_is_where_the_label_is():
    """The label is at the patient's right (high x) and anterior (high y): left and top in radiological convention."""
    levels, label = np.full((48, 96, 10), 100, np.uint8), np.zeros((48, 96, 10), bool)
    label[30:40, 70:86, 3] = True
    label[20, 20, 6] = True
    assert centre_of(label) == (34, 77, 3), "in the slice with most of it"
    assert centre_of(np.zeros((4, 6, 8))) == (2, 3, 4)
    pixels = panel(levels, "axial", 3, (1.0, 1.0, 2.0), {RED: label}, edge=96)
    assert pixels.shape == (96, 48, 3)
    red = (pixels == list(bytes.fromhex(RED[1:]))).all(axis=-1)
    rows, columns = np.nonzero(red)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (96 - 86, 95 - 70, 48 - 40, 47 - 30)
    assert not red[18, 12], "an outline"
    assert panel(levels, "coronal", 3, (1.0, 1.0, 2.0), edge=48).shape == (10, 24, 3)


def test_the_patients_sides_are_marked():
    levels = np.zeros((40, 40, 40), np.uint8)
    for plane in ("axial", "coronal", "sagittal"):
        marked = panel(levels, plane, 20, edge=80)[..., 0] > 0
        assert not marked[40:].any()
        halves = (marked[:, :40], marked[:, 40:]) if plane != "sagittal" else (marked[:, 40:], marked[:, :40])
        first, other = (half[half.any(axis=1)].sum(axis=1) for half in halves)  # R and L; P, on the right, and A
        assert first[0] > other[0], "the bar of an R or a P is at its top; that of an L at its bottom, an A has a tip"
        assert first[-1] < other[-1], "an L has its bar, an A two legs at the bottom"
    assert not panel(levels, "axial", 20).any(), "a pixel per voxel: data, not a picture"


@pytest.mark.parametrize("colours", [3, 1000])
def test_a_png_has_the_pixels(colours):
    pixels = np.random.default_rng(0).integers(0, 256, (colours, 3), np.uint8)[np.arange(1200) % colours]
    pixels = pixels.reshape(40, 30, 3)
    np.testing.assert_array_equal(np.asarray(Image.open(BytesIO(png(pixels))).convert("RGB")), pixels)
    assert side_by_side([pixels, pixels[:11]]).shape == (40, 64, 3)


@pytest.mark.parametrize("colours", [3, 1000])
def test_pictures_of_a_png_alternate(colours):
    values = np.random.default_rng(0).integers(0, 256, (colours, 3), np.uint8)
    first, second = (np.resize(values, (1200, 3)).reshape(40, 30, 3)[:, ::step] for step in (1, -1))
    picture = Image.open(BytesIO(png(first, second, period=500)))
    assert (picture.n_frames, picture.info["loop"]) == (2, 0)
    for number, pixels in enumerate((first, second)):
        picture.seek(number)
        np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), pixels)
        assert picture.info["duration"] == 500
