"""Figures of inputs, targets and outputs: which voxels they show, where, in which colours."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from common.inference.pictures import draw_segmentations

AXIAL, CORONAL, SAGITTAL = range(3)
SIDES = (10, 12, 8)  # right, anterior, superior


def pixels(axis):
    return np.asarray(axis.images[0].get_array())


def axes_of(figure, columns):
    assert len(figure.axes) % columns == 0
    return np.array(figure.axes).reshape(-1, columns)


def in_ras(array):
    return MetaTensor(torch.as_tensor(array).float(), affine=np.eye(4))


def in_lps(array):
    """The same volume, its x and y stored the other way round."""
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    affine[:2, 3] = SIDES[0] - 1, SIDES[1] - 1
    return MetaTensor(torch.as_tensor(array[:, ::-1, ::-1].copy()).float(), affine=affine)


def in_asr(array):
    """The same volume, its axes stored in another order: anterior, superior, right."""
    affine = np.eye(4)[:, [1, 2, 0, 3]]
    return MetaTensor(torch.as_tensor(array.transpose(0, 2, 3, 1).copy()).float(), affine=affine)


@pytest.fixture
def case():
    """A volume, and a lesion on the patient's right, in front and below: the largest x, the largest y, a small z."""
    image = np.random.default_rng(0).random((2, *SIDES))
    truth = np.zeros((1, *SIDES), dtype=bool)
    truth[0, 7:9, 10, 2] = True
    prediction = np.zeros_like(truth)
    prediction[0, 1, 1, 2] = True  # on the left, behind
    return image, truth, prediction


def drawn(case, store=in_ras, modalities=("T1", "FLAIR"), convention="atlas", **options):
    output = dict(zip(("image", "label", "pred"), map(store, case), strict=True))
    (figure,) = draw_segmentations([output], [{"subject": "a"}], modalities, convention, **options).values()
    return axes_of(figure, len(modalities[:2]) + 2)


def test_the_patients_right_is_left_in_the_picture_and_the_front_above(case):
    axes = drawn(case)
    truth, prediction = (np.ptp(pixels(axes[AXIAL, column]).astype(int), axis=-1) > 0 for column in (2, 3))
    assert np.argwhere(truth).tolist() == [[1, 1], [1, 2]]  # row, column
    assert np.argwhere(prediction).tolist() == [[10, 8]]


@pytest.mark.parametrize("store", [in_lps, in_asr])
def test_orientation_in_memory_does_not_matter(case, store):
    for expected, axis in zip(drawn(case).flat, drawn(case, store).flat, strict=True):
        np.testing.assert_array_equal(pixels(axis), pixels(expected))
