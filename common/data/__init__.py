"""Datalists, regions, datasets, transforms, and checks of headers."""

from common import lazy

__getattr__ = lazy(
    __name__,
    {
        "datalists": "Datalist SPLITS read restrict subset write",
        "datasets": "Batches CaseDataset CaseSampler Draw Steps files_of",
        "headers": "AFFINE_TOLERANCE Problem broken_file check_headers edges_of first_line grid_of "
        "read_headers read_voxels",
        "intensities": "NormalizeBraind brain_and_head otsu",
        "regions": "CONVENTIONS Convention Region aliases_of colours conventions_by_protocol display_order "
        "known_labels regions_of",
        "transforms": "CheckScand LabelToRegionsd NestRegionsd RegionsToLabeld",
        "volumes": "write_volume",
    },
)
