"""Thumbnails: which slice, which way up, and where the label is."""

import io

import numpy as np
from PIL import Image

from scripts.datalists.montage import LESION, thumbnail

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
