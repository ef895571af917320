import numpy as np
import pytest

from common.data import regions

OWN = "core=1+3:d1495b:6574001 SCT Necrosis,whole=1+2+3,cavity=7:C0-1 99LAB Cavity (old)"


def test_regions_of_ones_own_are_declared_by_text_or_in_a_datalist():
    assert regions.regions_of(OWN) == {"core": {1, 3}, "whole": {1, 2, 3}, "cavity": {7}}
    assert regions.known_labels(OWN) == {0, 1, 2, 3, 7}
    declared = {"core": {"labels": [1, 3], "colour": "#d1495b", "code": "6574001 SCT Necrosis"}, "whole": [1, 2, 3]}
    assert regions.declaration(declared | {"cavity": {"labels": 7, "code": "C0-1 99LAB Cavity (old)"}}) == OWN
    assert regions.declaration(OWN.replace("1+3:d1495b", "3 + 1 + 3 : D1495B").replace("=7", "=07")) == OWN
    assert regions.declaration("brats2024") == "brats2024"
    assert list(regions.colours(OWN)) == ["core", "whole", "cavity"]
    assert len(set(regions.colours(OWN).values())) == 3
    assert list(regions.colours("brats2021")) == ["WT", "TC", "ET"]


SIDED = "right LeftThalamus putamenleft hemi-L Precentral_r_1 ctx-lh RH_Hip HippL LHip lAmy Rt_ICA"


@pytest.mark.parametrize("name", SIDED.split())
def test_a_region_of_one_side_is_not_mirrored(name):
    assert regions.symmetric_axes(f"stroke=1,{name}=2") == []
    assert regions.with_sides(["stroke", "bright", name]) == [name]


def test_names_that_differ_only_in_their_side_are_not_mirrored():
    for pair in (["Lthal", "rthal"], ["LHIPP", "RHIPP"], ["DGMl", "DGMr"], ["amygdalaR", "AMYGDALAL"]):
        assert regions.with_sides(["stroke", *pair]) == pair


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
