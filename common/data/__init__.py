"""Datalists, regions, datasets, transforms, and checks of headers."""

from .. import lazy

__getattr__ = lazy(
    __name__,
    {
        "datalists": "ALL Datalist SPLITS convention_of in_memory read restrict subset write",
        "datasets": "Batches CaseDataset CaseSampler Draw Steps files_of",
        "headers": "AFFINE_TOLERANCE LARGEST Problem broken_file check_headers edges_of files_in first_line grid_of "
        "read_headers read_voxels what_broke",
        "intensities": "NormalizeBraind brain_and_head otsu",
        "modalities": "SPELLINGS count_missing first_image missing_in modality_of split_name",
        "provenance": "cohort_of is_skull_stripped model_name trained_on",
        "preparation": "brain_overlap describe differences measure measure_cases refuse spread union",
        "reader": "VerifyingReader",
        "regions": "CONVENTIONS Convention Region aliases_of alike canonical colours conventions_by_protocol "
        "declaration display_order known_labels mapping_of painting_order regions_of",
        "transforms": "CheckPreparationd CheckScand LabelToRegionsd LoadScand NestRegionsd RandModalityDropoutd "
        "RegionsToLabeld present_channels",
        "store": "Store",
        "volumes": "write_volume",
    },
)
