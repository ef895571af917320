"""Scoring protocols, each defined by `PROTOCOL` in a module of its own. To add a protocol, add a module.

If the reference lacks the region, Dice is 1 for an empty prediction, else 0, as in the challenges. Dice has two means:
over all cases (`dice`), and over cases with the region in the reference (`dice_present`), as in the paper (DIFF-23).
"""

from dataclasses import replace
from functools import partial
from importlib import import_module
from pkgutil import iter_modules

from ...errors import ArgumentError, InputError, choice
from ..cards import Protocol

_CARDS: list[Protocol] = [import_module(f"{__name__}.{module.name}").PROTOCOL for module in iter_modules(__path__)]
PROTOCOLS = {card.name: card for card in _CARDS}
CHALLENGES = tuple(name for card in _CARDS for name in card.challenges)


def protocol(name: str | None, challenge: str | None = None, convention: str | None = None) -> Protocol:
    """Return a scoring protocol with the settings of a challenge, such as MET for brats; by default, of its first.

    Without a name, it is the protocol that lists the label `convention`, else lesions.

    Example:
        >>> protocol("brats", "MET").settings["dilations"]
        1
        >>> protocol(None, convention="brats2021").name, protocol(None, convention="plaque=1").name
        ('brats', 'lesions')
    """
    if name is None:
        name = next((card.name for card in _CARDS if convention in card.conventions), "lesions")
    card: Protocol = choice("protocol", name, PROTOCOLS)
    if not card.challenges:
        if challenge is not None:
            raise ArgumentError("challenge", challenge, f"the protocol {name} has no challenges; leave it out")
        return card
    challenge = next(iter(card.challenges)) if challenge is None else challenge
    settings = choice("challenge", challenge, card.challenges)
    stated = {**card.settings, "challenge": challenge, **settings}
    meaning = card.meaning.format_map(stated)
    return replace(card, function=partial(card.function, **settings), settings=stated, meaning=meaning)


def check_convention(name: str, convention: str) -> None:
    """Raise InputError if the protocol does not score labels of the convention, but another protocol does."""
    scoring = [other for other, card in PROTOCOLS.items() if not card.conventions or convention in card.conventions]
    is_listed = any(convention in card.conventions for card in PROTOCOLS.values())
    if is_listed and name not in scoring:
        expected = f"--protocol={' or '.join(scoring)}"
        raise InputError(f"labels of {convention}: not scored by the protocol {name}; expected {expected}")
