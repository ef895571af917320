"""ISLES'22: like ATLAS v2.0, but lesions are 26-connected, and volume differences are in millilitres."""

import numpy as np

from ..cards import DICE, Protocol
from ..lesions import Lesion
from ..measures import Mask
from ..surfaces import Spacing
from .atlas import COUNT_DIFFERENCE, LESION_F1, VOLUME_DIFFERENCE, by_components


def isles(prediction: Mask, reference: Mask, spacing: Spacing) -> tuple[dict[str, float], tuple[Lesion, ...]]:
    """Score a region as the ISLES'22 challenge does."""
    metrics, lesions = by_components(prediction, reference, spacing, 26)
    millilitres = metrics["volume_difference"] * (float(np.prod(spacing)) / 1000)
    return metrics | {"volume_difference": millilitres}, lesions


PROTOCOL = Protocol(
    name="isles",
    title="ISLES'22",
    meaning="A lesion is a 26-connected component of the reference; it is found if it shares a voxel with the "
    "prediction.",
    conventions=("atlas",),
    metrics=(
        DICE,
        LESION_F1,
        COUNT_DIFFERENCE,
        VOLUME_DIFFERENCE._replace(meaning="Absolute difference of the volumes.", unit="ml", digits=2),
    ),
    function=isles,
    settings={"connectivity": 26},
)
