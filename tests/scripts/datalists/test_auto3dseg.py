"""Datalists as the input of MONAI's Auto3DSeg, read by MONAI."""

import json

import pytest
import yaml
from monai.auto3dseg.utils import datafold_read

from scripts.datalists.__main__ import auto3dseg, fold

SUBJECTS = [f"P{person}_v{visit}" for person in range(6) for visit in (1, 2)]


@pytest.fixture
def datalist(data):
    """Six people with two visits, the first person for testing."""
    entries = [
        {
            "subject": name,
            "person": name[:2],
            "image": [f"{name}_T1.nii.gz", f"{name}_T2.nii.gz"],
            "label": f"{name}.nii.gz",
        }
        for name in SUBJECTS
    ]
    data.touch(*(file for entry in entries for file in [*entry["image"], entry["label"]]))
    regions = {"whole": [1, 2], "core": [2]}
    content = {
        "name": "x",
        "modalities": ["T1", "T2"],
        "regions": regions,
        "training": entries[4:],
        "validation": entries[2:4],
    }
    return lambda **changed: data.write("list.json", content | {"testing": entries[:2]} | changed)


def test_monai_reads_each_person_in_one_fold_and_the_regions(data, datalist):
    out = data.folder / "out"
    auto3dseg(datalist(), str(data.root), str(out), folds=5)
    settings = yaml.safe_load((out / "input.yaml").read_text())
    assert settings["class_names"] == [{"name": "whole", "index": [1, 2]}, {"name": "core", "index": [2]}]
    assert settings["sigmoid"]
    held = []
    for number in range(5):
        training, validation = datafold_read(settings["datalist"], settings["dataroot"], number)
        assert len(training) == 8
        assert all((data.root / file).is_file() for entry in validation for file in [*entry["image"], entry["label"]])
        people = {entry["label"].split("/")[-1][:2] for entry in validation}
        assert len(people) == 1
        held += people
    assert sorted(held) == ["P1", "P2", "P3", "P4", "P5"]
    testing, _ = datafold_read(settings["datalist"], settings["dataroot"], 0, "testing")
    assert [entry["image"][1] for entry in testing] == [f"{data.root}/P0_v{visit}_T2.nii.gz" for visit in (1, 2)]


@pytest.mark.parametrize("single", [False, True])
def test_the_folds_of_auto3dseg_are_read_back(data, datalist, single):
    """Images that lie side by side name their subjects themselves; a path is as good as a list of one."""
    out, source = data.folder / "out", datalist()
    auto3dseg(source, str(data.root), str(out), folds=5)
    content = json.loads((out / "datalist.json").read_text())
    for entry in content["training"]:
        entry["image"] = f"elsewhere/imagesTr/{entry['image'][0]}" if single else entry["image"]
    (out / "datalist.json").write_text(json.dumps(content))
    for number in range(5):
        fold(source, str(data.folder / "fold.json"), folds=str(out / "datalist.json"), fold=number)
        expected = {entry["label"] for entry in content["training"] if entry["fold"] == number}
        held = json.loads((data.folder / "fold.json").read_text())["validation"]
        assert {entry["label"] for entry in held} == expected
