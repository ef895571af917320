"""Choose a checkpoint's cleanup: `python -m scripts.cleanup EVALUATION --checkpoint=FILE`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common import weights
from common.components import box_of
from common.data.regions import LARGEST, cleaned, painting_order, regions_of
from common.errors import ArgumentError, InputError, show
from common.files import digest
from common.metrics.measures import dice, spacing_of
from common.values import FILES
from scripts import cli

CANDIDATES = (10.0, 30.0, 100.0, 300.0, 1000.0, LARGEST)  # smallest volumes, mm3
Case = tuple[NDArray[Any], NDArray[Any], float]  # label maps of prediction and reference; volume of a voxel, mm3


def choose_cleanup(evaluation: str, checkpoint: str) -> None:
    """Choose a checkpoint's cleanup on evaluated validation cases, and store it in the checkpoint.

    Regions are cleaned from the outermost inwards. The candidates for each are smallest components of 10 to 1000 mm3,
    then the largest component alone. A candidate is kept if it raises the region's mean Dice over the cases and lowers
    the mean Dice of no region. Predictions use the choice unless --cleanup is given.

    Args:
        evaluation: output folder of evaluate.yaml with --split=validation, or of several pooled evaluations.
        checkpoint: the evaluated model.pt; several files, such as one per fold, as ['a.pt','b.pt'].
    """
    from scripts.evaluate.cases import scored_masks  # late imports: `--help` stays fast
    from scripts.evaluate.several import read_record

    folder, files = Path(evaluation).expanduser(), weights.checkpoint_files(FILES.parse("checkpoint", checkpoint))
    record, _ = read_record(folder)
    made, convention = record["made"], record["label_convention"]
    if made.get("cleanup") or {"testing", "all"} & {*(made.get("split") or "").split(" or ")}:
        problem = f"made with split={made.get('split')} and cleanup={made.get('cleanup')}"
        raise InputError(folder, problem, "--split=validation and --cleanup=none")
    if sorted(made.get("checkpoints", {}).values()) != sorted(map(digest, files)):
        listed = ", ".join(made.get("checkpoints", {})) or "unknown weights"
        raise ArgumentError("checkpoint", checkpoint, "not the evaluated weights", f"{listed}, unchanged")
    cases = []
    for entry in record["cases"].values():
        masks = scored_masks(folder, entry, convention)
        predicted, true = label_map(masks.predictions, convention), label_map(masks.references, convention)
        box = box_of((predicted > 0) | (true > 0))  # copies, as views would keep the whole volumes
        cases.append((predicted[box].copy(), true[box].copy(), float(np.prod(spacing_of(masks.affine)))))
    cleanup, before, after = choose(cases, convention)
    steps = {region: "largest" if volume == LARGEST else f"{volume:g}mm3" for region, volume in cleanup.items()}
    text = ",".join(f"{region}={step}" for region, step in steps.items())
    for file in files:
        content = weights.load(file)
        content["metadata"]["cleanup"] = text or None
        weights.write(content, file)
    show(*(f"{name}: mean Dice {before[name]:.4f} -> {after[name]:.4f} (cases: {len(cases)})" for name in before))
    show(*(f"{file}: cleanup {text or 'none'}" for file in files))


def label_map(masks: Mapping[str, NDArray[np.bool_]], convention: str) -> NDArray[np.uint8]:
    """Paint the masks of regions into a label map."""
    regions = [masks[name] for name in regions_of(convention)]
    label = np.zeros(regions[0].shape, np.uint8)
    for channel, value in painting_order(convention):
        label[regions[channel]] = value
    return label


def choose(cases: Sequence[Case], convention: str) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
    """Return the cleanup that raises Dice, and the mean Dice before and after it; all by region.

    Each candidate is tried together with those already chosen, as in nnU-Net v2 (DIFF-37).
    """
    names, chosen = [*regions_of(convention)], dict[str, float]()
    before = now = mean_dice(cases, convention, chosen)
    for name in (names[channel] for channel, _ in painting_order(convention)):
        for volume in CANDIDATES:
            trial = chosen | {name: volume}
            scores = mean_dice(cases, convention, trial)
            if scores[name] > now[name] and all(scores[region] >= now[region] for region in names):
                chosen, now = trial, scores
    return chosen, before, now


def mean_dice(cases: Sequence[Case], convention: str, cleanup: dict[str, float]) -> dict[str, float]:
    """Return each region's mean Dice over the cleaned cases; a case with two empty masks counts as 1."""
    scores: dict[str, list[float]] = {name: [] for name in regions_of(convention)}
    for predicted, true, voxel in cases:
        label = cleaned(predicted, convention, cleanup, voxel)
        for name, values in regions_of(convention).items():
            scores[name].append(dice(np.isin(label, [*values]), np.isin(true, [*values])))
    return {name: float(np.mean(values)) for name, values in scores.items()}


if __name__ == "__main__":
    cli.run(choose_cleanup, "cleanup")
