"""Cleanup of regions, compared with SciPy's components and holes on label maps."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy import ndimage

from common.data import NestRegionsd, RegionsToLabeld
from common.data.cleanup import Cleanup, cleaned
from common.data.regions import regions_of

# In the order of the steps: region, its labels, label of removed voxels, label of filled voxels, labels that are filled
ORDER = {
    "brats2021": [
        ("WT", [1, 2, 4], 0, 2, [0]),
        ("TC", [1, 4], 2, 1, [0, 2]),
        ("ET", [4], 1, 4, [0, 1, 2]),
    ],
    "csf=1,gm=2,wm=3": [("csf", [1], 0, 1, [0]), ("gm", [2], 0, 2, [0]), ("wm", [3], 0, 3, [0])],
}


def by_scipy(label, convention, steps, voxel):
    label = label.copy()
    for region, values, removed, filled, holes in ORDER[convention]:
        step = steps.get(region, Cleanup())
        components, count = ndimage.label(np.isin(label, values), np.ones((3, 3, 3)))
        sizes = ndimage.sum_labels(np.ones(label.shape), components, np.arange(1, count + 1))
        for number in range(1, count + 1):
            is_largest = number == np.argmax(sizes) + 1
            if sizes[number - 1] * voxel < step.smallest or (step.largest and not is_largest):
                of_component = components == number
                label[of_component] = removed
        if step.holes:
            mask = np.isin(label, values)
            label[ndimage.binary_fill_holes(mask) & ~mask & np.isin(label, holes)] = filled
    return label


def masks_of(label, convention):
    return np.stack([np.isin(label, [*values]) for values in regions_of(convention).values()])


def label_of(masks, convention):
    return RegionsToLabeld("x", convention)({"x": torch.from_numpy(masks)})["x"][0].numpy()


def random_steps(rng, convention):
    return {
        region: Cleanup(float(rng.choice([0, 3, 20])), bool(rng.random() < 0.3), bool(rng.random() < 0.5))
        for region in regions_of(convention)
    }


@pytest.mark.parametrize("convention", ORDER)
def test_cleaned_regions_are_scipys_and_nest(convention):
    rng, changes = np.random.default_rng(0), 0
    for _ in range(60):
        shape = rng.integers(3, 14, 3)
        smooth = ndimage.gaussian_filter(rng.normal(size=shape), rng.choice([0, 0.7]))
        values = [0, *sorted(set().union(*regions_of(convention).values()))]
        label = np.array(values)[np.digitize(smooth, np.quantile(smooth, [0.4, 0.6, 0.8]))].astype(np.uint8)
        steps, voxel = random_steps(rng, convention), rng.choice([0.5, 1, 2.5])
        masks = masks_of(label, convention)
        result = cleaned(masks, convention, steps, voxel)
        expected = by_scipy(label, convention, steps, voxel)
        np.testing.assert_array_equal(result, masks_of(expected, convention))
        np.testing.assert_array_equal(label_of(result, convention), expected)
        np.testing.assert_array_equal(masks, masks_of(label, convention))  # the input stays
        changes += (expected != label).any()
    assert changes > 40


def test_the_transform_nests_the_regions_and_takes_the_volume_of_a_voxel_from_the_affine():
    regions = torch.zeros(3, 8, 8, 8)
    regions[0, :4, :4, :4] = 1  # 64 voxels of TC
    regions[2, 6, 6, 6] = 1  # ET alone, which is WT and TC, too
    affine = torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0]))  # 8 mm3
    pred = {"pred": MetaTensor(regions, affine=affine)}
    for cleanup, whole in (("WT=9mm3", 64), ("WT=8mm3", 65), ("ET=9mm3", 65), (None, 65)):
        result = NestRegionsd("pred", "brats2021", cleanup)(pred)["pred"]
        assert result.sum(dim=(1, 2, 3))[1] == whole
        torch.testing.assert_close(result.affine, pred["pred"].affine)
    assert NestRegionsd("pred", "brats2021", "ET=largest,WT=9mm3")(pred)["pred"][2].sum() == 0
