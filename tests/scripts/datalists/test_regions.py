"""Regions from a file, and from the values in label maps."""

import pytest

from common.errors import InputError
from scripts.datalists.build import read_regions
from tests.scripts.datalists.folders import label, touch, written


def test_regions_from_the_values_of_label_maps(root):
    for number in range(12):
        touch(root, f"s{number}/T1.nii.gz")
        label(root / f"s{number}/seg.nii.gz", 1)
    assert written("generic", root, workers=1)["regions"] == {"lesion": [1]}
    label(root / "s3/seg.nii.gz", 1, 4)
    label(root / "s9/seg.nii.gz", 2)
    with pytest.raises(InputError, match="the values in the label maps are 1, 2, 4; expected a YAML file") as error:
        written("generic", root, workers=1)
    (root / "regions.yaml").write_text(str(error.value).partition("such as ")[2])
    assert written("generic", root)["regions"] == {"label1": [1], "label2": [2], "label4": [4]}


def test_a_file_of_regions_is_read_in_its_order(tmp_path):
    file = tmp_path / "regions.yaml"
    file.write_text(
        'whole: {labels: [3, 1, 2], colour: "#E69F00"}\ncore: [1, 3]\nrim: {labels: 2, code: 1 99LAB Rim}\n'
    )
    assert read_regions(file) == "whole=1+2+3:e69f00,core=1+3,rim=2:1 99LAB Rim"
