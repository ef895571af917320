"""The card of a scoring protocol: what it states of itself, and the scores that it gives."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .lesions import Lesion
from .measures import Mask, as_spacing, as_volumes, count_voxels, spacing_of

PRESENT = "dice_present"  # Dice of the cases whose reference has the region; DIFF-23


class Figure(NamedTuple):
    """A figure of a region.

    Attributes:
        name: in tables, such as lesion_f1.
        title: on pages, such as Lesion F1.
        meaning: definition, and the value for empty masks.
        unit: 1 marks a fraction.
        digits: decimals on pages.
        more_is_better: whether higher is better.
        ranks: whether it ranks systems, as in the challenge.
    """

    name: str
    title: str
    meaning: str
    unit: str = "1"
    digits: int = 3
    more_is_better: bool = True
    ranks: bool = True


DICE = Figure("dice", "Dice", "2 |P and R| / (|P| + |R|) over all voxels of the region; 1 if both masks are empty.")


@dataclass(frozen=True)
class Scores:
    """The scores of one region.

    Attributes:
        values: figures by name; `Protocol.units` has their units.
        lesions: lesions of the reference, then predicted components that hit none, each from large to small.
        volumes: volumes of the prediction and of the reference, mm3.
    """

    values: Mapping[str, float]
    lesions: tuple[Lesion, ...] = ()
    volumes: tuple[float, float] = (0.0, 0.0)

    @property
    def is_present(self) -> bool:
        """Whether the reference has the region; only then does the case count in `dice_present`."""
        return self.volumes[1] > 0


@dataclass(frozen=True)
class Protocol:
    """A way to score a region, a prediction against a reference.

    Attributes:
        name: as on command lines, such as isles.
        title: on pages, such as ISLES'22.
        meaning: what counts as a lesion and when it counts as found.
        conventions: names of the label conventions that it scores, its own first; none: all. Those that no protocol
            names, as regions of one's own, always.
        figures: in the order of tables; the first one orders the cases of a page, and one is `DICE` (DIFF-23).
        function: (prediction, reference, spacing) -> figures by name, and lesions; the masks are boolean [x, y, z].
        has_lesions: whether it scores lesions, besides the region.
        settings: fixed settings, for records.
        challenges: further arguments of the function by challenge, the default first.
    """

    name: str
    title: str
    meaning: str
    conventions: tuple[str, ...]
    figures: tuple[Figure, ...]
    function: Callable[..., tuple[Mapping[str, float], tuple[Lesion, ...]]]
    has_lesions: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)
    challenges: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def units(self) -> dict[str, str]:
        """Unit of each figure by name, in order."""
        return {figure.name: figure.unit for figure in self.figures}

    def figure(self, name: str) -> Figure:
        """The figure of a name."""
        return next(figure for figure in self.figures if figure.name == name)

    def measure(self, prediction: ArrayLike, reference: ArrayLike, spacing: Sequence[float] = (1, 1, 1)) -> Scores:
        """Score a region.

        Args:
            prediction: array or tensor [x, y, z]; bool, or numbers that are 0 or 1.
            reference: array or tensor of the same shape.
            spacing: voxel spacing, mm.

        Raises:
            InputError: a value other than 0 and 1, different shapes, other than three axes, or a spacing that is not
                three numbers above zero.
        """
        size = as_spacing(spacing)
        masks: tuple[Mask, Mask] = as_volumes(prediction, reference)
        values, lesions = self.function(*masks, size)
        predicted, truth = (count_voxels(mask) * float(np.prod(size)) for mask in masks)
        return Scores(values, lesions, (predicted, truth))

    def score(
        self, predictions: Mapping[str, Any], references: Mapping[str, Any], affine: ArrayLike
    ) -> dict[str, Scores]:
        """Score all regions of a case: masks by region, and the affine [4, 4] of their grid."""
        spacing = spacing_of(affine)
        return {region: self.measure(predictions[region], references[region], spacing) for region in references}


def figures(scores: Sequence[Scores], protocol: Protocol) -> dict[str, list[float]]:
    """The values of a region that make its means: each figure over all cases, and `PRESENT` after `dice`.

    Args:
        scores: Scores of the region, one for each case.
        protocol: Scoring protocol.
    """
    values = {}
    for name in protocol.units:
        values[name] = [measured.values[name] for measured in scores]
        if name == "dice":
            values[PRESENT] = [measured.values[name] for measured in scores if measured.is_present]
    return values
