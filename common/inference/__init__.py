"""Inference: cases, networks, label maps and evaluations."""

from .. import lazy

__getattr__ = lazy(
    __name__,
    cases="Predictor check_missing find_cases pending_cases",
    inferers="CropInferer WindowInferer ensemble",
    outputs="EmbeddingFile NestRegionsd RegionsToLabeld SaveVolumed Volumes",
    scores="EvaluationFiles RegionScores",
)
