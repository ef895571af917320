"""Dice and lesion F1 of each region, for custom labels; this protocol is not from a challenge."""

from dataclasses import replace

from .isles import PROTOCOL as ISLES

PROTOCOL = replace(ISLES, name="lesions", title="Dice and lesion F1", conventions=())
