"""Scoring protocols: a module defines `PROTOCOLS`, a tuple of cards. To add a protocol, add a module.

If the reference lacks the region, Dice is 1 for an empty prediction, else 0, as in the challenges. Dice has two means:
over all cases (`dice`), and over cases with the region in the reference (`dice_present`), as in the paper (DIFF-23).
"""

from dataclasses import replace
from functools import partial
from importlib import import_module
from pkgutil import iter_modules

from ...errors import InputError, choice
from ..cards import Protocol

_MODULES = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
PROTOCOLS: dict[str, Protocol] = {card.name: card for module in _MODULES for card in module.PROTOCOLS}
CHALLENGES = tuple(name for card in PROTOCOLS.values() for name in card.challenges)


def protocol(name: str | None, challenge: str | None = None, convention: str | None = None) -> Protocol:
    """Return a scoring protocol with the settings of a challenge, such as MET for brats; by default, of its first.

    Without a name, it is the first protocol that lists the label `convention`, else lesions.

    Example:
        >>> protocol("brats", "MET").settings["dilations"]
        1
        >>> protocol(None, convention="brats2021").name, protocol(None, convention="plaque=1").name
        ('brats', 'lesions')
    """
    if name is None:
        name = next((card.name for card in PROTOCOLS.values() if convention in card.conventions), "lesions")
    card: Protocol = choice("protocol", name, PROTOCOLS)
    if challenge is None and not card.challenges:
        return card
    challenge = next(iter(card.challenges)) if challenge is None else challenge
    settings = choice("challenge", challenge, card.challenges)
    stated = {**card.settings, "challenge": challenge, **settings}
    meaning = card.meaning.format_map(stated)
    return replace(card, function=partial(card.function, **settings), settings=stated, meaning=meaning)


def check_convention(name: str, convention: str) -> None:
    """Raise InputError if the protocol does not score labels of the convention, but another protocol does."""
    scoring = [card.name for card in PROTOCOLS.values() if convention in card.conventions]
    if scoring and name not in scoring and PROTOCOLS[name].conventions:
        raise InputError(f"labels of {convention}", f"not scored by {name}", f"--protocol={' or '.join(scoring)}")
