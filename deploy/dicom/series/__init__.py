"""Choose the series of a study by words, header and times; see docs/explanation/dicom-series.md."""
