"""Datalists, regions, datasets, transforms, and checks of headers."""

from .. import lazy

__getattr__ = lazy(
    __name__,
    {
        "datalists": "ALL Datalist SPLITS convention_of read subset write",
        "datasets": "Batches CaseDataset CaseSampler Draw Steps files_of",
        "intensities": "NormalizeBraind brain_and_head otsu",
        "modalities": "SPELLINGS count_missing first_image missing_in modality_of split_name",
        "provenance": "cohort_of is_skull_stripped model_name trained_on",
        "preparation": "OVERLAP PREPARATION_CHECKS brain_overlap describe differences measure measure_cases "
        "refuse spread union",
        "regions": "CONVENTIONS SCORED Region aliases_of alike canonical colours declaration "
        " display_order known_labels mapping_of painting_order regions_of",
        "scan_checks": "CHECKS Problem broken_file check_headers files_in grid_problem image_problem "
        "label_problem read_headers read_scan what_broke",
        "transforms": "CheckPreparationd CheckScand LabelToRegionsd LoadScand NestRegionsd RandModalityDropoutd "
        "RegionsToLabeld ResampleScand VerifyingReader present_channels",
        "store": "Store",
        "volumes": "read_voxels write_volume",
    },
)
