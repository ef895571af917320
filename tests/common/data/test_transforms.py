import itertools

import nibabel
import numpy as np
import pytest
import torch
from monai.transforms import Compose, Invertd
from scipy.spatial.transform import Rotation

from common.data.intensities import NormalizeBraind
from common.data.regions import regions_of
from common.data.transforms import (
    CropToForegroundd,
    LabelToRegionsd,
    LoadScand,
    RandRegionCropd,
    ToRASd,
)
from common.inference import NestRegionsd, RegionsToLabeld

# The regions of each label value, by the conventions' own papers: NCR 1, ED 2, ET 4 (BraTS 2023: 3); after treatment
# RC 4; in children ET 1, NET 2, CC 3, ED 4
MEMBERS = {
    "brats2021": (("TC", "WT", "ET"), {0: "", 1: "TC WT", 2: "WT", 4: "TC WT ET"}),
    "brats2023": (("TC", "WT", "ET"), {0: "", 1: "TC WT", 2: "WT", 3: "TC WT ET"}),
    "brats2024": (("TC", "WT", "ET", "RC"), {0: "", 1: "TC WT", 2: "WT", 3: "TC WT ET", 4: "RC"}),
    "brats2024peds": (("TC", "WT", "ET", "CC"), {0: "", 1: "TC WT ET", 2: "TC WT", 3: "TC WT CC", 4: "WT"}),
    "atlas": (("lesion",), {0: "", 1: "lesion"}),
}


def label_map(values):
    """Return a label map [1, 2, n, 2] with each value."""
    return torch.tensor(list(values), dtype=torch.float32).view(1, 1, -1, 1).repeat(1, 2, 1, 2)


@pytest.mark.parametrize("convention", MEMBERS)
def test_each_value_is_in_its_regions_and_label_maps_come_back(convention):
    names, members = MEMBERS[convention]
    assert tuple(regions_of(convention)) == names
    result = LabelToRegionsd("label", convention)({"label": label_map(members)})["label"]
    assert result.dtype == torch.float32
    assert result.shape == (len(names), 2, len(members), 2)
    for region, name in enumerate(names):
        expected = [float(name in inside.split()) for inside in members.values()]
        assert result[region, 0, :, 0].tolist() == result[region, 1, :, 1].tolist() == expected
    back = RegionsToLabeld("label", convention)({"label": result})["label"]
    assert back.dtype == torch.uint8
    assert torch.equal(back, label_map(members).to(torch.uint8))


@pytest.mark.parametrize(("convention", "enhancing"), [("brats2021", 4), ("brats2023", 3)])
def test_of_nested_regions_the_smaller_wins_even_where_they_are_not_nested(convention, enhancing):
    combinations = list(itertools.product((0, 1), repeat=3))  # of TC, WT, ET, as a network may put them out
    channels = torch.tensor(combinations).T.reshape(3, 1, -1, 1).float()
    label = RegionsToLabeld("pred", convention)({"pred": channels})
    expected = [enhancing if et else 1 if tc else 2 if wt else 0 for tc, wt, et in combinations]
    assert label["pred"].flatten().tolist() == expected
    nested = NestRegionsd("pred", convention)({"pred": channels})["pred"]
    assert torch.equal(nested, LabelToRegionsd("pred", convention)(label)["pred"])


def starts(label, share, count):
    """Return the first voxel [count, 3] of random crops of 4 x 3 x 2 voxels."""
    crop = RandRegionCropd(["label", "index"], "label", (4, 3, 2), share).set_random_state(seed=0)
    shape = label.shape[1:]
    index = torch.arange(np.prod(shape)).view(1, *shape)
    crops = [crop({"label": label, "index": index})[0] for _ in range(count)]
    assert {tuple(sample["label"].shape) for sample in crops} == {(len(label), 4, 3, 2)}
    return np.stack(np.unravel_index([sample["index"].flatten()[0].item() for sample in crops], shape), axis=1)


def test_crops_anywhere_are_equally_likely_as_are_crops_of_a_scan_without_regions():
    label = torch.zeros(2, 5, 5, 3)
    for share, regions in ((0.0, label + 1), (1.0, label)):
        places, counts = np.unique(starts(regions, share, 1200), axis=0, return_counts=True)
        assert len(places) == 2 * 3 * 2  # all
        assert ((counts - 100) ** 2 / 100).sum() < 31.3  # chi-squared, 11 degrees of freedom, p 0.001


def test_regions_that_are_present_are_equally_likely_centres_and_crops_stay_inside():
    label = torch.zeros(3, 20, 20, 20)
    label[0, 2:8, 2:8, 2:8] = 1  # 216 voxels
    label[1, 15, 15, 15] = 1
    middle = np.array([2, 1, 1])
    centres = starts(label, 1.0, 400) + middle
    of_second = (centres == 15).all(axis=1)
    assert 160 < of_second.sum() < 240
    assert ((centres[~of_second] >= 2) & (centres[~of_second] < 8)).all()
    label = torch.zeros(1, 5, 5, 3)
    label[0, 4, 4, 2] = 1  # in the corner
    assert (starts(label, 1.0, 5) == [1, 2, 1]).all()


@pytest.mark.parametrize("angles", [("xy", 45, 5), ("yx", 45, 7), ("xy", 45, 45), ("zx", -45, 10), ("xy", 90, 180)])
@pytest.mark.parametrize("signs", [(-1, 1, 1), (1, 1, 1), (-1, -1, 1)])
def test_a_case_is_turned_as_one_and_back_to_the_bit(angles, signs, tmp_path):
    """Voxels keep their place; two axes of equal strength; scan and label differ by rounding; a cube."""
    voxels, affine = np.random.default_rng(0).random((6, 6, 6), np.float32), np.eye(4)
    affine[:3, :3] = Rotation.from_euler(angles[0], angles[1:], degrees=True).as_matrix() @ np.diag(signs) * 4
    for name, shift in (("image", 0), ("label", 1e-7)):
        nibabel.save(nibabel.Nifti2Image(voxels, affine + shift), tmp_path / f"{name}.nii")
    files = {"image": [tmp_path / "image.nii"], "label": tmp_path / "label.nii"}
    keys = ["image", "label"]
    steps = Compose([LoadScand(keys), ToRASd(keys), CropToForegroundd("image", source_key="image")])
    case = steps(files)
    assert torch.equal(case["image"], case["label"])
    assert torch.equal(case["image"].affine, case["label"].affine)
    at = np.array([1, 2, 3, 1])
    source = np.linalg.solve(affine, case["image"].affine.numpy() @ at).round().astype(int)
    assert case["image"][0, 1, 2, 3] == voxels[tuple(source[:3])]
    if 90 not in angles:
        assert (np.diag(case["image"].affine)[:3] > 0).all()
        assert source[0] == (1 if signs[0] > 0 else 4), "the stored order of axes"
    back = Invertd("pred", steps, orig_keys="image", nearest_interp=False)(case | {"pred": case["image"].clone()})
    np.testing.assert_array_equal(back["pred"][0], voxels)
    np.testing.assert_array_equal(back["pred"].affine, affine)


@pytest.mark.parametrize(("scale", "offset"), [(1, 0), (1, 500), (0.004, -0.9), (1, -2000)])
@pytest.mark.parametrize("air", ["zero", "noise"])
def test_an_offset_of_intensities_changes_neither_crop_nor_z_scores(scale, offset, air, tmp_path):
    random = np.random.default_rng(0)
    head = np.zeros((12, 12, 12)) if air == "zero" else random.integers(0, 9, (12, 12, 12)).astype(float)
    head[3:9, 2:8, 4:11] = random.integers(300, 900, (6, 6, 7))
    nibabel.save(nibabel.Nifti1Image((head * scale + offset).astype(np.float32), np.eye(4)), tmp_path / "a.nii")
    loaded = LoadScand("image", ["T1"])({"image": [tmp_path / "a.nii"]})
    result = NormalizeBraind("image", "nonzero")(CropToForegroundd("image", source_key="image")(loaded))["image"][0]
    expected = head[3:9, 2:8, 4:11] if air == "zero" else head
    values = expected[expected != 0]
    expected = np.where(expected != 0, (expected - values.mean()) / values.std(), 0)
    np.testing.assert_allclose(result, expected, atol=2e-4)
