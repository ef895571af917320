"""Choose the series of a study by evidence: words, header, times and voxels; docs/explanation/dicom-series.md."""
