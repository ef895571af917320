import pytest

from common.data.layouts.cohorts import read_cohort
from common.errors import InputError
from tests.scripts.datalists.cohorts import touch
from tests.support import one_line

ATLAS_FILE = "{0}/ses-{1}/anat/{0}_ses-{1}_space-MNI152NLin2009aSym_T1w.nii.gz"


@pytest.mark.parametrize(
    ("cohort", "folders", "message"),
    [
        ("brats", [], r"no subject of brats; expected folders such as BraTS2021_00000 or .*; found nothing$"),
        ("atlas", ["sub-001"], "expected folders such as sub-r001s001/ses-1 or R001/sub-r001s001/ses-1 or Training/R0"),
        ("brats", ["BraTS2021_00001", "BraTS-GLI-00000-000"], r"mixed: .*, or labels could differ"),
    ],
)
def test_unknown_and_mixed_layouts_are_named_in_one_line(tmp_path, cohort, folders, message):
    for folder in folders:
        (tmp_path / folder).mkdir()
    with pytest.raises(InputError, match=message) as error:
        read_cohort(cohort, tmp_path)
    assert str(error.value).startswith(f"--root={tmp_path}: ")
    assert one_line(error)


def test_visits_have_relative_paths_and_name_what_is_missing(tmp_path):
    touch(tmp_path, "1000012_20252_3_0/T1/T1_brain_to_MNI.nii.gz", "1000012_20253_2_0/T2_FLAIR/T2_FLAIR.nii.gz")
    data = read_cohort("ukb", tmp_path)
    first, second = data.subjects.values()
    assert [*data.order] == ["T1", "FLAIR"]
    assert [visit.name for visit in (first, second)] == ["1000012_2_0", "1000012_3_0"]
    assert [visit.person for visit in (first, second)] == ["1000012", "1000012"]
    assert [visit.images for visit in (first, second)] == [{}, {"T1": "1000012_20252_3_0/T1/T1_brain_to_MNI.nii.gz"}]


def test_sessions_after_the_first_are_subjects_of_the_same_person(tmp_path):
    for session in (1, 2, 11):
        touch(tmp_path, f"elsewhere/{ATLAS_FILE.format('sub-r001s001', session)}")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/R001").symlink_to(tmp_path / "elsewhere")  # links to folders are followed
    visits = read_cohort("atlas", tmp_path / "root").subjects
    assert [*visits] == ["sub-r001s001", "sub-r001s001_ses-11", "sub-r001s001_ses-2"]
    assert {visit.person for visit in visits.values()} == {"sub-r001s001"}


def test_a_subject_in_two_places_is_named(tmp_path):
    for part in ("Training", "Testing"):
        touch(tmp_path, f"{part}/R001/{ATLAS_FILE.format('sub-r001s001', 1)}")
    with pytest.raises(InputError, match=r"sub-r001s001 exists twice: Testing/R001/.* and Training/R001/"):
        read_cohort("atlas", tmp_path)
