"""Datalists, label conventions, datasets, transforms and header checks."""

from .. import lazy

__getattr__ = lazy(
    __name__,
    datalists="Datalist convention_of",
    datasets="CaseDataset",
    intensities="NormalizeBraind",
    regions="regions_of symmetric_axes",
    transforms="CheckPreparationd CropToForegroundd LabelToRegionsd LoadScand RandModalityDropoutd "
    "RandRegionCropd ToRASd",
)
