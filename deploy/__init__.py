"""From a DICOM study to a DICOM segmentation and a summary; see README.md in this folder."""
