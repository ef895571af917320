"""Benchmark of lesion-wise scores of a case: our implementation and a plain implementation."""

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

from scripts.benchmark.timing import Works, measure


def metrics() -> Works:
    """Return the variants that compute the BraTS scores of a case, on a single thread."""
    kinds = {"boxes of the lesions (ours)": "ours", "whole volumes, boxes for distances": "plain"}
    function = "scripts.benchmark.metrics:scoring"
    return {"metrics": {name: partial(measure, function, kind, threads=1) for name, kind in kinds.items()}}


def scoring(kind: str) -> Callable[[], Any]:
    """Return a function that scores a case by our implementation (`kind` "ours") or by `score_plainly` ("plain")."""
    from common.metrics import protocol

    prediction, reference = draw_case()
    return lambda: (protocol("brats").measure if kind == "ours" else score_plainly)(prediction, reference)


def draw_case() -> tuple[Any, Any]:
    """Return prediction and reference [240, 240, 155] at 1 mm: ten lesions, one missed, and three false components."""
    import numpy as np
    from scipy import ndimage

    draw = np.random.default_rng(0)
    shape, middle, brain = (240, 240, 155), np.array([120, 120, 78]), np.array([65, 80, 58])  # mm
    lesions: list[tuple[Any, float]] = []
    for radius in (24, 16, 11, 8, 6, 5, 4, 3, 2.5, 2, 4):  # mm; the last is a false lesion
        while True:
            centre = middle + draw.uniform(-1, 1, 3) * brain
            inside = (((centre - middle) / (brain - radius)) ** 2).sum() < 1
            if inside and all(np.linalg.norm(centre - c) > 1.3 * (radius + r) + 8 for c, r in lesions):
                break
        lesions.append((centre, radius))
    grid = np.ogrid[tuple(slice(side) for side in shape)]

    def draw_mask(spheres: list[tuple[Any, float]], roughness: Any) -> Any:
        mask = np.zeros(shape, dtype=bool)
        for centre, radius in spheres:
            mask |= sum((axis - at) ** 2 for axis, at in zip(grid, centre, strict=True)) < (radius * roughness) ** 2
        return mask

    rough, error = (ndimage.zoom(draw.normal(size=(40, 40, 31)), (6, 6, 5), order=1) for _ in range(2))
    reference = draw_mask(lesions[:-1], 1 + 0.1 * rough)
    return draw_mask([*lesions[:6], *lesions[7:]], 1 + 0.1 * rough + 0.1 * error), reference


def score_plainly(prediction: Any, reference: Any) -> dict[str, float]:
    """Return BraTS scores at 1 mm by a plain implementation, which dilates and matches lesions in the whole volume.

    As in the challenge's code, DeepMind's library computes distances within the bounding box of both masks.
    """
    import cc3d
    import numpy as np
    from scipy import ndimage
    from surface_distance import compute_robust_hausdorff, compute_surface_distances

    def score(predicted: Any, lesion: Any) -> tuple[float, float]:
        dice = 2 * (predicted & lesion).sum() / (predicted.sum() + lesion.sum())
        if not predicted.any():
            return float(dice), 374.0
        return float(dice), compute_robust_hausdorff(compute_surface_distances(lesion, predicted, (1, 1, 1)), 95)

    neighbours = ndimage.generate_binary_structure(3, 2)
    components = cc3d.connected_components(prediction.view(np.uint8), connectivity=26)
    extents = ndimage.binary_dilation(reference, neighbours, iterations=3)
    lesions = cc3d.connected_components(extents.view(np.uint8), connectivity=26) * reference
    matched, scores = {0}, []
    for label in range(1, int(lesions.max()) + 1):
        lesion = lesions == label
        hits = np.unique(components * ndimage.binary_dilation(lesion, neighbours, iterations=3))
        matched.update(hits.tolist())
        if lesion.sum() > 50:  # mm3
            scores.append(score(np.isin(components, hits[hits > 0]), lesion))
    scores += [(0.0, 374.0)] * len(set(np.unique(components).tolist()) - matched)
    dice, hd95 = score(prediction, reference)
    means = [statistics.fmean(figures) for figures in zip(*scores, strict=True)]
    return {"lesionwise_dice": means[0], "lesionwise_hd95": means[1], "dice": dice, "hd95": hd95}
