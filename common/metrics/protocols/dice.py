"""Dice of each region as a whole, regardless of its lesions; this protocol is not from a challenge."""

from ...components import Mask
from ..cards import DICE, Protocol
from ..measures import dice
from ..surfaces import Spacing


def region_dice(prediction: Mask, reference: Mask, spacing: Spacing) -> tuple[dict[str, float], tuple[()]]:
    """Score a region by its Dice."""
    return {"dice": dice(prediction, reference)}, ()


PROTOCOL = Protocol(
    name="dice",
    title="Dice of the region",
    meaning="Each region counts as a whole, without regard to lesions.",
    conventions=(),
    metrics=(DICE,),
    function=region_dice,
    has_lesions=False,
)
