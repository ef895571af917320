"""Dice and lesion F1 of each region, for custom labels; this protocol is not from a challenge."""

from ..cards import DICE, Protocol
from .atlas import LESION_F1
from .isles import PROTOCOL as ISLES
from .isles import isles

PROTOCOL = Protocol(
    name="lesions",
    title="Dice and lesion F1",
    meaning=ISLES.meaning,
    conventions=(),
    figures=(DICE, LESION_F1, *ISLES.figures[2:]),
    function=isles,
    settings=ISLES.settings,
)
