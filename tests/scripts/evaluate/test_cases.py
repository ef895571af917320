"""Find the files of an evaluation, and every fault that their names can have."""

import pytest

from common.metrics import protocol
from scripts.evaluate.cases import Case, find_cases

ATLAS = protocol("atlas")


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
        Case("a", predictions / "a.nii", references / "a.nii.gz"),
        Case("b", predictions / "b.nii.gz", references / "b.nii.gz"),
    ]


def test_the_protocol_or_the_user_names_the_label_convention_of_a_folder(folders):
    def convention(name, references=folders[1], given=None):
        return find_cases(folders[0], references, protocol(name), label_convention=given)[0]

    assert [convention("isles"), convention("brats"), convention("dice", given="a=1")] == ["atlas", "brats2023", "a=1"]
    assert convention("dice") == convention("lesions") == "lesion=1"
    assert find_cases(*folders, None)[0] == "lesion=1"
