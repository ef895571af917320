"""Read DICOM studies, build volumes, and choose series."""
