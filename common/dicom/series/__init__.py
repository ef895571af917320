"""Choose the series of a study by words, header, times and voxels; see docs/explanation/dicom-series.md."""
