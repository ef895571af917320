"""Inference: cases, ensembles, segmentations, tables and pictures."""

from .. import lazy

__getattr__, __dir__ = lazy(
    __name__,
    {
        "cases": "CheckFilesd check_missing check_results find_cases",
        "embeddings": "EmbeddingFile",
        "ensembles": "ensemble",
        "pictures": "draw_inpainting draw_segmentations",
        "predictor": "Predictor",
        "publishing": "begin",
        "segmentations": "SaveVolumed Volumes",
        "segmenter": "Segmenter",
        "windows": "CropInferer WindowInferer",
    },
)
