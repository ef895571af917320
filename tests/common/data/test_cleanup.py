"""Cleanup of regions, compared with SciPy's components of label maps."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy import ndimage

from common.data.regions import LARGEST, cleaned
from common.inference import NestRegionsd

# In the order of the steps: region, its labels, label of removed voxels
ORDER = {
    "brats2021": [("WT", [1, 2, 4], 0), ("TC", [1, 4], 2), ("ET", [4], 1)],
    "csf=1,gm=2,wm=3": [("csf", [1], 0), ("gm", [2], 0), ("wm", [3], 0)],
    "both=1+2,a=1,b=2": [("both", [1, 2], 0), ("a", [1], 0), ("b", [2], 0)],
}


def by_scipy(label, convention, cleanup, voxel):
    label = label.copy()
    for region, values, removed in ORDER[convention]:
        parts, count = ndimage.label(np.isin(label, values), np.ones((3, 3, 3)))
        sizes = ndimage.sum_labels(np.ones(label.shape), parts, np.arange(1, count + 1))
        for number in range(1, count + 1):
            smallest = cleanup.get(region, 0)
            goes = number != np.argmax(sizes) + 1 if smallest == LARGEST else sizes[number - 1] * voxel < smallest
            if goes:
                label[parts == number] = removed
    return label


@pytest.mark.parametrize("convention", ORDER)
def test_cleaned_regions_are_scipys(convention):
    rng, changes = np.random.default_rng(0), 0
    values = [0, *sorted({value for _, labels, _ in ORDER[convention] for value in labels})]
    for _ in range(60):
        smooth = ndimage.gaussian_filter(rng.normal(size=rng.integers(3, 14, 3)), rng.choice([0, 0.7]))
        quantiles = np.quantile(smooth, np.linspace(0.4, 0.8, len(values) - 1))
        label = np.array(values)[np.digitize(smooth, quantiles)].astype(np.uint8)
        cleanup = {region: float(rng.choice([0, 3, 20, LARGEST])) for region, *_ in ORDER[convention]}
        voxel, before = rng.choice([0.5, 1, 2.5]), label.copy()
        expected = by_scipy(label, convention, cleanup, voxel)
        np.testing.assert_array_equal(cleaned(label, convention, cleanup, voxel), expected)
        np.testing.assert_array_equal(label, before)
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
