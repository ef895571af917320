"""Figures of inputs, targets and outputs: which voxels they show, where, in which colours."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from common.inference.panels import grey_levels, panel
from common.inference.pictures import draw_inpainting, draw_segmentations

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


def test_three_planes_with_inputs_truth_and_prediction(case):
    axes = drawn(case)
    assert axes.shape == (3, 4)
    assert [axis.get_title() for axis in axes[0]] == ["T1", "FLAIR", "reference", "prediction"]
    assert [row[0].get_ylabel() for row in axes] == ["axial", "coronal", "sagittal"]
    marks = [[(text.get_text(), text.get_position()[0] < 0.5) for text in axis.texts] for axis in axes[:, -1]]
    assert marks == [[("R", True), ("L", False)], [("R", True), ("L", False)], [("A", True), ("P", False)]]
    for channel in (0, 1):  # through the lesion's largest axial slice and its middle there
        levels = grey_levels(case[0][channel])
        for row, (plane, at) in enumerate((("axial", 2), ("coronal", 10), ("sagittal", 7))):
            np.testing.assert_array_equal(pixels(axes[row, channel]), panel(levels, plane, at))


def test_the_patients_right_is_left_in_the_picture_and_the_front_above(case):
    axes = drawn(case)
    truth, prediction = (np.ptp(pixels(axes[AXIAL, column]).astype(int), axis=-1) > 0 for column in (2, 3))
    assert np.argwhere(truth).tolist() == [[1, 1], [1, 2]]  # row, column
    assert np.argwhere(prediction).tolist() == [[10, 8]]


@pytest.mark.parametrize("store", [in_lps, in_asr])
def test_orientation_in_memory_does_not_matter(case, store):
    for expected, axis in zip(drawn(case).flat, drawn(case, store).flat, strict=True):
        np.testing.assert_array_equal(pixels(axis), pixels(expected))


def test_of_nested_regions_the_smaller_is_on_top():
    x, y, z = np.indices(SIDES)
    distance = np.sqrt((x - 5) ** 2 + (y - 6) ** 2 + (z - 4) ** 2)
    masks = np.stack([distance < radius for radius in (2.5, 3.3, 1.5)])  # TC, WT, ET
    axes = drawn((np.zeros((1, *SIDES)), masks, masks), modalities=["T1"], convention="brats2021")
    overlay = pixels(axes[AXIAL, 1])
    colours = [tuple(overlay[5, 9 - (5 + step)]) for step in (3, 2, 0)]
    assert len(set(colours)) == 3  # WT, then TC, then ET, inwards
    assert not overlay[0, 0].any()
    whole, core, enhancing = (int(masks[region, :, :, 4].sum()) for region in (1, 0, 2))
    counts = [int((overlay == colour).all(axis=-1).sum()) for colour in colours]
    assert counts == [whole - core, core - enhancing, enhancing]


# Inpainting


def ssl_output(views=4, channels=2):
    volumes = torch.rand(3, views, channels, 6, 6, 4, generator=torch.Generator().manual_seed(0))
    return {
        "image": volumes[0],
        "pred": {"reconstruction": volumes[1].bfloat16().requires_grad_()},
        "label": {"clean": volumes[2]},
    }


@pytest.mark.parametrize(("views", "crops"), [(4, 3), (2, 2)])
def test_inpainting_has_a_row_for_each_crop_and_modality(views, crops):
    output = ssl_output(views)
    figures = draw_inpainting(output, modalities=["T1", "FLAIR"])
    assert list(figures) == ["inpainting"]
    axes = axes_of(figures["inpainting"], columns=3)
    assert len(axes) == 2 * crops
    assert [axis.get_title() for axis in axes[0]] == ["corrupted input", "reconstruction", "clean crop"]
    assert [row[0].get_ylabel() for row in axes[:2]] == ["crop 1, T1", "crop 1, FLAIR"]
    volumes = output["image"], output["pred"]["reconstruction"], output["label"]["clean"]
    for row, axis in enumerate(axes):
        for column, volume in enumerate(volumes):
            cut, like = (each[row // 2, row % 2].detach().float().numpy() for each in (volume, volumes[-1]))
            np.testing.assert_array_equal(pixels(axis[column]), panel(grey_levels(cut, like), "axial", 2))
