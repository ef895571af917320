"""Regions from a file, and from the values in label maps."""

import re

import nibabel
import numpy as np
import pytest
import yaml

from common.errors import InputError
from scripts.datalists.regions import read_regions
from tests.support import one_line


@pytest.fixture
def labelled(data):
    for number in range(12):
        data.touch(f"s{number}/T1.nii.gz")
        data.label(f"s{number}/seg.nii.gz", 1)
    return data


def test_the_only_value_1_is_the_lesion(labelled, capsys):
    assert labelled.scan()["regions"] == {"lesion": [1]}
    said = "regions: lesion=1, as 1 is the only value in 12 label maps; --regions=REGIONS.yaml renames it\n"
    assert said in capsys.readouterr().out


def test_other_values_are_shown_as_a_file_of_regions(labelled):
    labelled.label("s3/seg.nii.gz", 1, 4)
    labelled.label("s9/seg.nii.gz", 2)
    expected = "missing; the values in 12 label maps are 1, 2, 4; expected a YAML file"
    with pytest.raises(InputError, match=expected) as error:
        labelled.scan()
    shown = yaml.safe_load(re.search(r"such as (\{.*\})$", str(error.value))[1])
    assert shown == {"label1": {"labels": [1]}, "label2": {"labels": [2]}, "label4": {"labels": [4]}}
    regions = labelled.write("regions.yaml", yaml.safe_dump(shown, sort_keys=False))
    assert labelled.scan(regions=regions)["regions"] == {"label1": [1], "label2": [2], "label4": [4]}


def test_label_maps_that_are_no_label_maps_are_refused(labelled):
    for value in (1042, -1):  # which no file of regions could name
        labelled.label("s0/seg.nii.gz", 1, value)
        with pytest.raises(
            InputError, match=rf"s0/seg.nii.gz: label {value}; expected 0 for background, and 1 to 255$"
        ):
            labelled.scan()
    nibabel.save(nibabel.Nifti1Image(np.full((2, 2, 2), 0.5, np.float32), np.eye(4)), labelled.root / "s0/seg.nii.gz")
    with pytest.raises(InputError, match=r"s0/seg.nii.gz: label 0.5; expected whole numbers"):
        labelled.scan()


def test_a_file_of_regions_is_read_in_its_order(tmp_path):
    file = tmp_path / "regions.yaml"
    file.write_text(
        'whole: {labels: [3, 1, 2], colour: "#E69F00"}\ncore: [1, 3]\nrim: {labels: 2, code: 1 99LAB Rim}\n'
    )
    assert read_regions(file, "--regions=r") == "whole=1+2+3:e69f00,core=1+3,rim=2:1 99LAB Rim"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "No such file or directory; expected a YAML file of regions"),
        ("a: [1", "not YAML"),
        ("a: {labels: [1], colour: red}", "red"),
        ("a: {labels: [1], code: 35764002}", r"\$\.a.*35764002"),
        ("a: [1, 2]\nb: [2, 3]", "regions=a=1.2,b=2.3: a and b overlap; expected different regions, nested or"),
        ("!!python/object/apply:os.system ['true']", "not YAML"),
    ],
)
def test_a_broken_file_of_regions_is_named(tmp_path, text, message):
    file = tmp_path / "regions.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        read_regions(file, "--regions=r.yaml")
    assert one_line(error).startswith("--regions=r.yaml: ")


def test_the_datalist_does_not_replace_the_regions(labelled):
    regions = labelled.write("list.json", "lesion: [1]")
    with pytest.raises(InputError, match=r"--output=.*list.json: the same file as --regions"):
        labelled.scan(regions=regions)


def test_a_file_that_is_no_datalist_is_refused_before_the_scan(labelled, monkeypatch):
    labelled.write("list.json", "lesion: [1]")
    monkeypatch.setattr("scripts.datalists.build._select", None)  # nothing is read before
    with pytest.raises(InputError, match=r"list.json: not JSON .*; expected a new file, or a datalist to replace$"):
        labelled.scan()


def test_a_file_of_regions_in_the_root_is_taken(data, capsys):
    for number in range(3):
        data.touch(f"S{number}/T1.nii.gz")
        data.label(f"S{number}/seg.nii.gz", 1, 2)
    (data.root / "regions.yaml").write_text("ventricles: {labels: [1]}\ngrey: {labels: [2]}\n")
    assert data.scan(testing="all")["regions"] == {"ventricles": [1], "grey": [2]}
    assert f"regions from {data.root / 'regions.yaml'}" in capsys.readouterr().out
