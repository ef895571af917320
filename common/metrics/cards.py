"""Definitions (cards) of scoring protocols and their metrics, and the scores of a region."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .lesions import Lesion
from .measures import as_masks, count_voxels, spacing_of

PRESENT = "dice_present"  # Dice over the cases with the region in the reference (DIFF-23)


class Metric(NamedTuple):
    """Definition of a metric of a region, such as lesion F1."""

    name: str  # in tables, such as lesion_f1
    title: str  # on pages, such as Lesion F1
    meaning: str  # definition, and value for empty masks
    unit: str = "1"  # 1 for a fraction
    digits: int = 3  # decimals on pages
    more_is_better: bool = True


DICE = Metric(
    "dice",
    "Dice",
    "Overlap of prediction P and reference R: 1 if they are equal, 0 if they share no voxel. 2 |P and R| / (|P| + |R|) "
    "over all voxels of the region; 1 if both masks are empty.",
)


@dataclass(frozen=True)
class Scores:
    """The scores of a region: value of each metric by name, lesions, and volumes of prediction and reference, mm3.

    `lesions` has the reference lesions, then the false components, each from large to small.
    """

    values: Mapping[str, float]
    lesions: tuple[Lesion, ...] = ()
    volumes: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Protocol:
    """Definition of a scoring protocol: how it scores a predicted region against a reference.

    `function` maps prediction, reference (boolean masks [x, y, z]) and spacing to values and lesions. Every protocol
    scores conventions that no protocol lists, such as custom regions.
    """

    name: str  # on command lines, such as isles
    title: str  # on pages, such as ISLES'22
    meaning: str  # of a lesion and of a found lesion; with challenges, a format string for the settings
    conventions: tuple[str, ...]  # label conventions that it scores, the challenge's first; empty: all
    metrics: tuple[Metric, ...]  # in the order of tables, with `DICE`; the first orders the cases of a page
    function: Callable[..., tuple[Mapping[str, float], tuple[Lesion, ...]]]
    has_lesions: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)  # fixed settings, for records
    challenges: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # more arguments, the default's first

    @property
    def units(self) -> dict[str, str]:
        """Unit of each metric by name, in the order of `metrics`."""
        return {metric.name: metric.unit for metric in self.metrics}

    def metric(self, name: str) -> Metric:
        """Return the definition of a metric by its name."""
        return next(metric for metric in self.metrics if metric.name == name)

    def measure(self, prediction: ArrayLike, reference: ArrayLike, spacing: Sequence[float] = (1, 1, 1)) -> Scores:
        """Score a region; the arguments are those of `common.metrics.hd95`."""
        x, y, z = map(float, spacing)
        masks = as_masks(prediction, reference)
        values, lesions = self.function(*masks, (x, y, z))
        predicted, truth = (count_voxels(mask) * float(np.prod((x, y, z))) for mask in masks)
        return Scores(values, lesions, (predicted, truth))

    def score(
        self, predictions: Mapping[str, Any], references: Mapping[str, Any], affine: ArrayLike
    ) -> dict[str, Scores]:
        """Score all regions of a case, from masks by region and the affine [4, 4] of their grid."""
        spacing = spacing_of(affine)
        return {region: self.measure(predictions[region], references[region], spacing) for region in references}


def by_metric(scores: Sequence[Scores], protocol: Protocol) -> dict[str, list[float]]:
    """Return a region's values in all cases, by metric; `dice_present` omits the cases without the region."""
    values = {}
    for name in protocol.units:
        values[name] = [measured.values[name] for measured in scores]
        if name == "dice":
            values[PRESENT] = [measured.values[name] for measured in scores if measured.volumes[1] > 0]
    return values
