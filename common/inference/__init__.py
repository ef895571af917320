"""Inference: cases, ensembles, segmentations, tables and pictures."""

from .. import lazy

__getattr__, __dir__ = lazy(
    __name__,
    {
        "cases": "CheckFilesd check_missing check_results find_cases",
        "embeddings": "EmbeddingFile",
        "ensembles": "Ensemble ensemble",
        "pictures": "draw_inpainting draw_segmentations",
        "predictor": "Predictor",
        "publishing": "begin finish",
        "results": "CaseFiles Details write",
        "segmentations": "SaveVolumed Volumes files_of finished",
        "segmenter": "Segmenter",
        "windows": "CropInferer WindowInferer",
    },
)
