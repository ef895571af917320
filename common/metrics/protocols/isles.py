"""ISLES'22: like ATLAS v2.0, but lesions are 26-connected, and volume differences are in millilitres."""

from functools import partial

from ..cards import DICE, Protocol
from .atlas import COUNT_DIFFERENCE, LESION_F1, VOLUME_DIFFERENCE, by_components

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
    function=partial(by_components, connectivity=26, in_ml=True),
    settings={"connectivity": 26},
)
