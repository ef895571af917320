"""Who is a person, by the names of public data sets and of common habit."""

import pytest

from common.data.names import person_of
from scripts.datalists.files import describe_people, name_people
from scripts.layouts.paths import visit_name
from scripts.layouts.reading import Subject

PEOPLE = """
BraTS2021_00000 BraTS20_Training_001 BraTS20_001
BraTS19_CBICA_AAB_1 BraTS-GoAT-00001 BRATS_001 hippocampus_001 UCSF-PDGM-0004 TCGA-06-0119 002_S_0295
C3L-00016 OAS1_0001 sub-r001s001 sub-strokecase0001 sub_1 ReMIND-001 IBSR_01 100307 site1_sub_003 CC0001_philips_15_55_M
"""  # names that are a person as a whole
VISITS = {  # name of a visit -> its person
    "BraTS-GLI-00005-100": "BraTS-GLI-00005",
    "P01.2": "P01",
    "Brats17_2013_10_1": "Brats17_2013_10",
    "sub-r001s001_ses-2": "sub-r001s001",
    "sub-strokecase0001_ses-0001": "sub-strokecase0001",
    "1000012_2_0": "1000012",
    "1000012_20252_2_0": "1000012",
    "OAS1_0001_MR1": "OAS1_0001",
    "OAS30001_MR_d0129": "OAS30001",
    "002_S_0295_m12": "002_S_0295",
    "TCGA-06-0119_1996.08.23": "TCGA-06-0119",
    "UPENN-GBM-00001_11": "UPENN-GBM-00001",
    "UCSF-PDGM-0429_FU003d": "UCSF-PDGM-0429",
    "UCSD-PTGBM-0001_01": "UCSD-PTGBM-0001",
    "BCBM-RadioGenomics-1-0": "BCBM-RadioGenomics-1",
    "PatientID_0003_Timepoint_1": "PatientID_0003",
    "Patient-001_week-000-1": "Patient-001",
    "training01_02": "training01",
    "sub_1_ses_1": "sub_1",
    "sub-01_ses-01_acq-mprage": "sub-01",
    "sub-anna_ses-1_acq-3d": "sub-anna",
    "ses-02_sub-01": "sub-01",
    "P01_ses-at home": "P01",
    **dict.fromkeys(("P01_v1", "P01-V2", "P01_tp02", "P01_visit_2", "P01_T2", "P01_1", "P01-12", "P01_m06"), "P01"),
    **dict.fromkeys(("P01_baseline", "P01_follow-up", "P01_2019-03-04", "P01_v1_acq-3d", "P01_post-op"), "P01"),
    "anna_v1": "anna",
}

PATHS = {  # folders of a visit -> its person
    "sub_1/ses_2": "sub_1",
    "Patient-001/week-000-1": "Patient-001",
    "P01/whatever": "P01",
    "baseline/P01": "P01",
    "2020/P01": "P01",
    "site2/P01": "site2_P01",
    "HGG/BraTS19_CBICA_AAB_1": "HGG_BraTS19_CBICA_AAB_1",
    "ds1/sub_1/ses_1": "ds1_sub_1",
    "site1/sub-01": "site1_sub-01",
}


def test_the_person_in_a_name():
    names = {name: name for name in PEOPLE.split()} | VISITS
    assert {name: person_of(name) for name in names} == names
    assert person_of("IXI002-Guys-0828") != person_of("IXI012-HH-1211")
    assert {path: person_of(visit_name(path.split("/"))) for path in PATHS} == PATHS


@pytest.mark.parametrize("names", ["P01a P01b P02a", "P01v1 P01v2 P02v1", "anna_x anna_y ben_x ben_y", "1a 1b"])
def test_names_that_leave_people_open_come_with_the_pattern_that_joins_them(names):
    subjects = [Subject(name, person_of(name)) for name in names.split()]
    _, _, pattern = describe_people({it.name: it.person for it in subjects}).partition("--person=")
    name_people(subjects, pattern.strip("'"))
    first, second, *others = [subject.person for subject in subjects]
    assert first == second
    assert first not in others
