"""A DICOM study in, a DICOM segmentation and its summary out: see README.md of this folder."""
