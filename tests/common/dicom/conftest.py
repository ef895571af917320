from tests.common.dicom.dicom_study import cohorts as cohorts
