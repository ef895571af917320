"""Inference: cases, ensembles, segmentations, evaluations and pictures."""

from .. import lazy

__getattr__, __dir__ = lazy(
    __name__,
    {
        "cases": "CheckFilesd check_missing find_cases pending_cases",
        "ensembles": "ensemble",
        "evaluation": "EvaluationFiles",
        "pictures": "draw_inpainting draw_segmentations",
        "predictor": "Predictor",
        "outputs": "EmbeddingFile SaveVolumed Volumes",
        "windows": "CropInferer WindowInferer",
    },
)
