"""What single names of folders and files state."""

from scripts.layouts.paths import kind_of_folder, subjects_of


def test_what_a_folder_holds_by_its_name():
    kinds = {"images_structural": "images", "masks": "label", "brain_masks": "anatomy", "T1_Gd": "T1ce", "Gd": "T1ce"}
    assert {folder: kind_of_folder(folder) for folder in [*kinds, "P1_T1"]} == kinds | {"P1_T1": None}


def test_a_subject_is_named_by_its_folders_or_else_by_the_file():
    assert subjects_of("T1", ["P1", "late"], "P1_ax") == {"P1_ses-late": ["P1", "late"]}
    assert [*subjects_of("label", ["masks"], "P1_T1")] == ["P1_T1", "P1"]
