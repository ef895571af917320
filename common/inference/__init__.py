"""Inference: cases, networks, label maps, evaluations and pictures."""

from .. import lazy

__getattr__ = lazy(
    __name__,
    cases="Predictor check_missing find_cases pending_cases",
    inferers="CropInferer WindowInferer ensemble",
    outputs="EmbeddingFile SaveVolumed Volumes",
    pictures="Pictures draw_inpainting draw_segmentation",
    scores="EvaluationFiles RegionScores",
)
