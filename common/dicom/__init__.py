"""Read DICOM studies: images grouped into series, volumes, and the choice of series. No config uses this."""
