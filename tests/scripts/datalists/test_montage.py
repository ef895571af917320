"""Thumbnails: which slice, which way up, and where the label is."""

import io

import numpy as np
import pytest
from PIL import Image

from scripts.datalists.montage import LESION, outline, thumbnail

SPACING = np.array([1.0, 1.0, 2.0])


def picture(content):
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def head(shape=(48, 96, 20)):
    volume = np.zeros(shape, np.float32)
    volume[4:-4, 4:-4, 4:-4] = 100
    return volume


def test_the_slice_with_most_of_the_label_is_shown_with_its_outline():
    """The label is at the patient's right (high x) and anterior (high y): left and top in radiological convention."""
    volume, label = head(), np.zeros((48, 96, 20), np.uint8)
    volume[8, 20, 13] = 1000
    label[30:40, 70:86, 13] = 2
    label[20, 20, 6] = 1
    pixels = picture(thumbnail(volume, SPACING, label))
    assert pixels.shape == (96, 48, 3), "96 pixels, and as wide as in mm"
    rows, columns = np.nonzero((pixels == LESION).all(axis=-1))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (96 - 86, 95 - 70, 48 - 40, 47 - 30)
    assert tuple(pixels[18, 12]) != LESION, "an outline"


def test_without_a_label_the_slice_has_half_of_the_tissue_below_it_and_the_side_is_that_of_radiology():
    """A bright block at low x, the patient's left, is on the right; at low y, posterior, at the bottom."""
    volume = np.zeros((48, 96, 40), np.float32)
    volume[4:-4, 4:-4, 24:34] = 100
    volume[6:14, 8:20, 28:30] = 500
    rows, columns = np.nonzero(picture(thumbnail(volume, np.ones(3), np.zeros(volume.shape)))[..., 0] > 200)
    assert columns.mean() > 24
    assert rows.mean() > 70


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 300, 2), (5, 4, 3)])
def test_any_volume_is_drawn(shape):
    assert max(picture(thumbnail(np.zeros(shape, np.float32), np.ones(3), None)).shape) == 96


def test_an_outline_is_where_a_neighbour_is_outside():
    mask = np.zeros((5, 5), bool)
    mask[1:4, 1:4] = True
    assert outline(mask).sum() == 8
    assert not outline(mask)[2, 2]
