"""Inference: cases, ensembles, segmentations, evaluations and pictures."""

from .. import lazy

__getattr__, __dir__ = lazy(
    __name__,
    {
        "cases": "CheckFilesd check_missing find_cases pending_cases",
        "ensembles": "ensemble",
        "evaluation": "EvaluationFiles",
        "pictures": "Pictures draw_inpainting draw_segmentations",
        "predictor": "Predictor",
        "outputs": "EmbeddingFile SaveVolumed Volumes",
        "scores": "RegionScores",
        "windows": "CropInferer WindowInferer",
    },
)
