"""Layouts of files with known names; `test_main` has a subject of each cohort."""

import pytest

from common.data.layouts.reading import read_cohort
from common.errors import InputError
from tests.scripts.datalists.cohorts import add_atlas, add_brats, add_brats_2023, touch
from tests.support import one_line

ATLAS_FILE = "{0}/ses-{1}/anat/{0}_ses-{1}_space-MNI152NLin2009aSym_T1w.nii.gz"


def mix_years(root):
    add_brats(root, 1)
    add_brats_2023(root, 1)


def put_a_subject_in_two_places(root):
    add_atlas(root, 1, above="Training/R001/")
    add_atlas(root, 1, above="Testing/R001/", mask=False)


@pytest.mark.parametrize(
    ("cohort", "fill", "message"),
    [
        ("brats", lambda root: touch(root, "a/T1.nii"), "no scan of brats among a; expected folders such as Br"),
        ("brats", mix_years, r"layouts are mixed: BraTS2021_00001 .*, BraTS-GLI-00001-000 .* labels could differ$"),
        ("atlas", put_a_subject_in_two_places, r"sub-r001s001 exists twice: Testing/R001/.* and Training/R001/"),
    ],
)
def test_unknown_and_mixed_layouts_are_named_in_one_line(root, cohort, fill, message):
    fill(root)
    with pytest.raises(InputError, match=message) as error:
        read_cohort(cohort, root)
    assert one_line(error).startswith(f"--root={root}: ")


def test_sessions_after_the_first_are_subjects_of_the_same_person(tmp_path):
    for session in (1, 2, 11):
        touch(tmp_path, f"elsewhere/{ATLAS_FILE.format('sub-r001s001', session)}")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/R001").symlink_to(tmp_path / "elsewhere")  # links to folders are followed
    visits = read_cohort("atlas", tmp_path / "root").subjects
    assert [*visits] == ["sub-r001s001", "sub-r001s001_ses-11", "sub-r001s001_ses-2"]
    assert {visit.person for visit in visits.values()} == {"sub-r001s001"}
