from tests.deploy.dicom.dicom_study import cohorts as cohorts
