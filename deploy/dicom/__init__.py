"""Read DICOM studies, build volumes, and choose series. No config uses this package."""

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
