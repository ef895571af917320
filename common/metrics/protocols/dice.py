"""Dice of the region, without regard to lesions; not from a challenge."""

from ..cards import DICE, Protocol
from ..measures import Mask, dice
from ..surfaces import Spacing


def region_dice(prediction: Mask, reference: Mask, spacing: Spacing) -> tuple[dict[str, float], tuple[()]]:
    """Score a region by its Dice."""
    return {"dice": dice(prediction, reference)}, ()


PROTOCOL = Protocol(
    name="dice",
    title="Dice of the region",
    meaning="Each region counts as a whole, without regard to lesions.",
    conventions=(),
    figures=(DICE,),
    function=region_dice,
    has_lesions=False,
)
