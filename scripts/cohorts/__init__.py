"""Cohorts: each module describes a cohort in its `COHORT`, a `Cohort`; a new module adds a cohort."""

from importlib import import_module
from pkgutil import iter_modules

from scripts.cohorts.card import Cohort

COHORTS: dict[str, Cohort] = {
    module.name: import_module(f"{__name__}.{module.name}").COHORT
    for module in iter_modules(__path__)
    if module.name != "card"
}
LIKE = {f"{name}_finetune": name for name, card in COHORTS.items() if card.convention}  # bundle -> its cohort
