"""Layouts of files with known names; `test_main` has a subject of each cohort."""

from common.data.layouts.reading import read_cohort
from tests.scripts.datalists.cohorts import touch

ATLAS_FILE = "{0}/ses-{1}/anat/{0}_ses-{1}_space-MNI152NLin2009aSym_T1w.nii.gz"


def test_sessions_after_the_first_are_subjects_of_the_same_person(tmp_path):
    for session in (1, 2, 11):
        touch(tmp_path, f"elsewhere/{ATLAS_FILE.format('sub-r001s001', session)}")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/R001").symlink_to(tmp_path / "elsewhere")  # links to folders are followed
    visits = read_cohort("atlas", tmp_path / "root").subjects
    assert [*visits] == ["sub-r001s001", "sub-r001s001_ses-11", "sub-r001s001_ses-2"]
    assert {visit.person for visit in visits.values()} == {"sub-r001s001"}
