"""nnU-Net's raw data, by the command. Each dataset.json is one that nnU-Net's documentation or converters show."""

import json

# Dataset137_BraTS21.py of nnU-Net
BRATS = {
    "channel_names": {"0": "T1", "1": "T1ce", "2": "T2", "3": "Flair"},
    "labels": {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": [3]},
    "regions_class_order": [1, 2, 3],
    "numTraining": 3,
    "file_ending": ".nii.gz",
}
# documentation/dataset_format.md
PROSTATE = {
    "channel_names": {"0": "T2", "1": "ADC"},
    "labels": {"background": 0, "PZ": 1, "TZ": 2},
    "numTraining": 3,
    "file_ending": ".nii.gz",
    "overwrite_image_reader_writer": "SimpleITKIO",
}


def fill(data, content, tests=1):
    """Three cases for training and some for testing, with their channels."""
    channels = content["channel_names"]
    data.root.mkdir(exist_ok=True)
    (data.root / "dataset.json").write_text(json.dumps(content))
    for part, name, count in (("Tr", "C", 3), ("Ts", "D", tests)):
        for case in range(count):
            data.touch(*[f"images{part}/{name}_{case}_{int(channel):04d}.nii.gz" for channel in channels])
            if part == "Tr":
                data.touch(f"labelsTr/{name}_{case}.nii.gz")
    return data


def test_regions_and_channels(data, capsys):
    content = fill(data, BRATS).scan()
    assert content["modalities"] == ["T1", "T1ce", "T2", "FLAIR"]
    regions = [("whole_tumor", [1, 2, 3]), ("tumor_core", [2, 3]), ("enhancing_tumor", [3])]
    assert list(content["regions"].items()) == regions
    entry = (content["training"] + content["validation"])[0]
    case = entry["subject"]
    assert entry["image"] == [f"imagesTr/{case}_{channel:04d}.nii.gz" for channel in range(4)]
    assert entry["label"] == f"labelsTr/{case}.nii.gz"
    printed = capsys.readouterr().out
    assert "dataset.json: region whole tumor renamed to whole_tumor\n" in printed
    assert "layout: nnunet (nnU-Net raw), subjects: 4, modalities: T1, T1ce, T2, FLAIR\n" in printed


def test_names_of_cases_are_taken_whole(data):
    """Sessions, too: a prediction has the case's name."""
    fill(data, PROSTATE)
    for case in ("C_1_ses-1", "C_1_ses-2"):
        data.touch(f"imagesTr/{case}_0000.nii.gz", f"imagesTr/{case}_0001.nii.gz", f"labelsTr/{case}.nii.gz")
    content = data.scan(validation=1)
    subjects = {entry["subject"] for entry in content["training"] + content["validation"]}
    assert subjects == {"C_0", "C_1", "C_1_ses-1", "C_1_ses-2", "C_2"}


def test_test_cases_without_label_are_apart_and_those_with_one_are_for_testing(data):
    fill(data, BRATS, tests=3)
    content = data.scan(validation=1)
    assert [entry["subject"] for entry in content["unlabelled"]] == ["D_0", "D_1", "D_2"]
    assert (len(content["training"]), content["testing"]) == (2, [])
    data.touch("labelsTs/D_0.nii.gz", "labelsTs/D_2.nii.gz")
    content = data.scan(validation=1)
    assert [entry["subject"] for entry in content["testing"]] == ["D_0", "D_2"]
    assert [entry["subject"] for entry in content["unlabelled"]] == ["D_1"]
    assert (len(content["training"]), len(content["validation"])) == (2, 1)


def channels(*names, **more):
    return PROSTATE | {"channel_names": {str(number): name for number, name in enumerate(names)} | more}
