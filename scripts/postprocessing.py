"""Choose a checkpoint's postprocessing: `python -m scripts.postprocessing EVALUATION --checkpoint=FILE`."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from common import cli, weights
from common.components import box_of
from common.data.cleanup import Masks, Steps, cleaned, text_of
from common.data.regions import painting_order, regions_of
from common.errors import ArgumentError, InputError, show
from common.files import digest, expand_home
from common.locks import claimed
from common.values import FILES

# Candidates of each region, in this order
VOLUMES = (10.0, 30.0, 100.0, 300.0, 1000.0)  # mm3
CANDIDATES: dict[str, tuple[Any, ...]] = {"smallest": VOLUMES, "largest": (True,), "holes": (True,)}


class Case(NamedTuple):
    """Regions [R, x, y, z] of prediction and reference in channel order, and the volume of a voxel, mm3."""

    prediction: Masks
    reference: Masks
    voxel: float


def choose_postprocessing(evaluation: str, checkpoint: str) -> None:
    """Choose a checkpoint's postprocessing on evaluated validation cases, and store it in the checkpoint.

    Regions are processed from the outermost inwards. The candidates for each are a smallest component (10 to 1000 mm3),
    the largest component alone, and filled holes. A candidate is kept if it raises the region's mean Dice over the
    cases and lowers the mean Dice of no region. The choice is stored in the checkpoint; predictions use it unless
    --cleanup is given.

    Args:
        evaluation: output folder of evaluate.yaml with --split=validation, or of several pooled evaluations.
        checkpoint: the evaluated model.pt; several files, such as one per fold, as ['a.pt','b.pt'].
    """
    from common.inference.masks import scored_masks  # late imports: `--help` stays fast
    from common.inference.reading import read
    from common.metrics.measures import spacing_of

    folder = expand_home(evaluation, evaluation)
    details = read(folder)
    files = weights.checkpoint_files(FILES.read(checkpoint))
    made = details.made
    if made.get("cleanup"):
        raise InputError(folder, f"postprocessed by {made['cleanup']}", "an evaluation with --cleanup=none")
    split = made.get("split") or "unknown"
    if {"testing", "all"}.intersection(split.split(" or ")):
        raise InputError(folder, f"evaluated on the split {split}", "an evaluation with --split=validation")
    contents = {file: weights.load(file) for file in files}
    if foreign := [file for file in files if not isinstance(contents[file].get("metadata"), Mapping)]:
        raise ArgumentError("checkpoint", foreign[0], "no metadata", "the model.pt that a training run wrote")
    if sorted(made.get("checkpoints", {}).values()) != sorted(map(digest, files)):
        listed = ", ".join(made.get("checkpoints", {})) or "unknown weights"
        raise ArgumentError("checkpoint", checkpoint, "not the evaluated weights", f"{listed}, unchanged")
    regions = [*regions_of(details.convention)]
    cases = []
    for case in details.files:
        masks = scored_masks(case, details)
        predicted, true = (np.stack([part[region] for region in regions]) for part in masks[:2])
        box = (slice(None), *box_of(np.any([*predicted, *true], axis=0)))
        cases.append(Case(predicted[box], true[box], float(np.prod(spacing_of(masks.affine)))))
    steps, before, after = choose(cases, details.convention)
    text = text_of(steps)
    for file in files:
        with claimed("checkpoint", file.parent):
            metadata = {**contents[file]["metadata"], "cleanup": text or None}
            weights.write({**contents[file], "metadata": metadata}, file)
    for region in regions:
        chosen = text_of({region: steps.get(region, Steps())}).partition("=")[2] or "nothing"
        show(f"{region}: {chosen}, mean Dice {before[region]:.4f} -> {after[region]:.4f} (cases: {len(cases)})")
    show(*(f"{file}: cleanup {text or 'none'}" for file in files))


def choose(cases: Sequence[Case], convention: str) -> tuple[dict[str, Steps], dict[str, float], dict[str, float]]:
    """Return, by region, the postprocessing steps that raise Dice, and the mean Dice before and after these steps.

    Each candidate is tried together with the steps already chosen, as in nnU-Net v2 (`determine_postprocessing`);
    DIFF-37.
    """
    names = [*regions_of(convention)]
    chosen: dict[str, Steps] = {}
    before = now = mean_dice(cases, convention, chosen)
    for channel, _ in painting_order(convention):
        region = names[channel]
        for field, values in CANDIDATES.items():
            for value in values:
                trial = chosen | {region: chosen.get(region, Steps())._replace(**{field: value})}
                scores = mean_dice(cases, convention, trial)
                if scores[region] > now[region] and all(scores[name] >= now[name] for name in names):
                    chosen, now = trial, scores
    return chosen, before, now


def mean_dice(cases: Sequence[Case], convention: str, steps: Mapping[str, Steps]) -> dict[str, float]:
    """Return each region's mean Dice over the cases after postprocessing; a case with two empty masks counts as 1."""
    from common.metrics.measures import dice  # late import: `--help` stays fast

    names = [*regions_of(convention)]
    scores = []
    for case in cases:
        masks = cleaned(case.prediction, convention, steps, case.voxel)
        scores.append([dice(mask, true) for mask, true in zip(masks, case.reference, strict=True)])
    return dict(zip(names, map(float, np.mean(scores, axis=0)), strict=True))


if __name__ == "__main__":
    cli.run(choose_postprocessing, "postprocessing")
