"""Find the files of an evaluation, and every fault that their names can have."""

import json

import pytest

from common.inference.results import CaseFiles
from common.metrics import protocol
from scripts.evaluate.cases import find_cases

ATLAS, BRATS = protocol("atlas"), protocol("brats")


def touch(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


@pytest.fixture
def folders(tmp_path):
    return touch(tmp_path / "p", "b.nii.gz", "a.nii"), touch(tmp_path / "r", "a.nii.gz", "b.nii.gz")


def test_files_of_one_name_are_a_case(folders):
    predictions, references = folders
    touch(predictions, ".hidden.nii.gz", "dataset.json", "scores.csv", "a.nii.gz.txt")
    (predictions / "more").mkdir()
    assert find_cases(predictions, references, ATLAS)[1] == [
        CaseFiles("a", predictions / "a.nii", references / "a.nii.gz"),
        CaseFiles("b", predictions / "b.nii.gz", references / "b.nii.gz"),
    ]


# Datalists


@pytest.fixture
def datalist(tmp_path):
    root, entries = tmp_path / "data", []
    for subject in ("s2", "s1", "s0"):
        touch(root / subject, "t1.nii.gz", "truth.nii.gz")  # the second modality is not there, and not needed
        images = [f"{subject}/t1.nii.gz", f"{subject}/t2.nii.gz"]
        entries.append({"subject": subject, "image": images, "label": f"{subject}/truth.nii.gz"})
    head = {"name": "toy", "modalities": ["T1", "T2"], "label_convention": "brats2021"}
    path = tmp_path / "toy.json"
    path.write_text(json.dumps({**head, "testing": entries[:2], "validation": entries[2:]}))
    return path


def test_the_labels_of_a_datalist_are_references(datalist, tmp_path):
    predictions = touch(tmp_path / "p", "s1.nii.gz", "s2.nii.gz")
    root = tmp_path / "data"
    assert find_cases(predictions, datalist, BRATS, dataset_dir=root)[1] == [
        CaseFiles(
            name,
            predictions / f"{name}.nii.gz",
            root / name / "truth.nii.gz",
            (("T1", root / name / "t1.nii.gz"), ("T2", root / name / "t2.nii.gz")),
        )
        for name in ("s1", "s2")
    ]
    validation = touch(tmp_path / "v", "s0.nii")
    convention, (case,), split = find_cases(validation, datalist, BRATS, dataset_dir=root, split="validation")
    assert (convention, case.name, case.reference) == ("brats2021", "s0", root / "s0/truth.nii.gz")
    assert split == "validation"


def test_the_protocol_or_the_user_names_the_label_convention_of_a_folder(folders, datalist):
    def convention(name, references=folders[1], given=None):
        return find_cases(folders[0], references, protocol(name), label_convention=given)[0]

    assert [convention("isles"), convention("brats"), convention("dice", given="a=1")] == ["atlas", "brats2023", "a=1"]
    assert convention("dice") == convention("lesions") == "lesion=1"
    assert find_cases(*folders, None)[0] == "lesion=1"
