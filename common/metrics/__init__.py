"""Score segmentations: pure functions of arrays."""

from .. import lazy

__getattr__, __dir__ = lazy(
    __name__,
    {
        "cards": "Figure PRESENT Protocol Scores figures",
        "lesions": "Connectivity Lesion Matching match",
        "measures": "as_masks as_spacing as_volumes count_voxels dice hd95 spacing_of",
        "protocols": "CHALLENGES PROTOCOLS check_convention protocol",
        "statistics": "DIGITS RESAMPLES describe holm mean_interval signed_rank",
        "surfaces": "Surface percentile_distance surface_of",
    },
)
