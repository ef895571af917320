import numpy as np
import pytest
import torch

from common.data import regions
from common.data.transforms import NestRegionsd

OWN = "core=1+3:d1495b,whole=1+2+3,cavity=7"
CODED = "core=1+3:d1495b:6574001 SCT Necrosis,whole=1+2+3,cavity=7:C0-1 99LAB Cavity (old)"


def test_regions_of_ones_own_are_declared_by_text_or_in_a_datalist():
    assert regions.regions_of(OWN) == {"core": {1, 3}, "whole": {1, 2, 3}, "cavity": {7}}
    assert regions.known_labels(OWN) == {0, 1, 2, 3, 7}
    declared = {"core": {"labels": [1, 3], "colour": "#d1495b"}, "whole": [1, 2, 3], "cavity": [7]}
    assert regions.declaration(declared) == regions.declaration(declared | {"cavity": 7}) == OWN
    assert regions.canonical("core = 3+1:D1495B, whole=2+1+3+3, cavity=07") == OWN
    assert regions.canonical("brats2024") == "brats2024"
    assert list(regions.colours(OWN)) == ["core", "whole", "cavity"]
    assert len(set(regions.colours(OWN).values())) == 3
    assert list(regions.colours("brats2021")) == ["WT", "TC", "ET"]


SIDED = "right LeftThalamus putamenleft hemi-L Precentral_r_1 ctx-lh RH_Hip HippL LHip lAmy Rt_ICA"


@pytest.mark.parametrize("name", SIDED.split())
def test_a_region_of_one_side_is_not_mirrored(name):
    assert regions.symmetric_axes(f"stroke=1,{name}=2") == []
    assert regions.with_sides(["stroke", name]) == [name]


@pytest.mark.parametrize("pair", [["Lthal", "rthal"], ["LHIPP", "RHIPP"], ["DGMl", "DGMr"], ["amygdalaR", "AMYGDALAL"]])
def test_names_that_differ_only_in_their_side_are_not_mirrored(pair):
    assert regions.with_sides(["stroke", *pair]) == pair


def test_a_region_may_have_a_code():
    declared = {"core": {"labels": [1, 3], "colour": "#d1495b", "code": "6574001 SCT Necrosis"}, "whole": [1, 2, 3]}
    declared["cavity"] = {"labels": [7], "code": "C0-1 99LAB Cavity (old)"}
    assert regions.declaration(declared) == regions.canonical(CODED.replace(":", " : ")) == CODED
    assert regions.regions_of(CODED) == regions.regions_of(OWN), "a code changes no label"


def test_the_innermost_region_gives_a_voxel_its_label():
    """Nested regions, a disjoint region, and a region without a label outside its inner regions."""
    text = "whole=1+2+3+4,core=1+3+4,a=1+3,b=4,c=9"
    painted = np.zeros(5, dtype=int)
    members = np.array(
        [[1, 1, 1, 1, 0], [0, 1, 1, 1, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1]], dtype=bool
    )
    for channel, value in regions.painting_order(text):
        painted[members[channel]] = value
    assert painted.tolist() == [2, 1, 1, 4, 9]  # core alone takes 1, its smallest value


def test_regions_that_are_apart_share_no_voxel_in_what_is_measured():
    both = {"pred": torch.ones(3, 2, 2, 2)}
    nested = NestRegionsd("pred", OWN)(both)["pred"]
    assert nested.dtype == torch.float32
    assert nested.flatten(1).sum(1).tolist() == [0, 0, 8]  # the smallest region that claims a voxel has it
