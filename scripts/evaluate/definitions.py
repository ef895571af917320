"""Titles and definitions of protocols and metrics, in definitions.yaml."""

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from common.metrics.protocols import PENALTY, Protocol
from scripts.yaml_files import read_yaml

DIGITS = {"1": 3, "mm": 1, "voxels": 0}  # decimals on pages by unit; others: 2


class Metric(NamedTuple):
    """Definition of a metric on pages."""

    name: str
    unit: str
    title: str
    meaning: str

    @property
    def digits(self) -> int:
        """Decimals of its values."""
        return DIGITS.get(self.unit, 2)


def title_of(protocol: Protocol) -> str:
    """Return a protocol's title, by default its name."""
    return str(_definition("protocols", protocol.name)["title"])


def meaning_of(protocol: Protocol) -> str:
    """Return what a protocol counts as a lesion, and as found."""
    return str(_definition("protocols", protocol.name)["meaning"]).format_map(protocol.settings)


def metrics_of(protocol: Protocol) -> dict[str, Metric]:
    """Return the definition of each of a protocol's metrics, by name, in the order of tables."""
    metrics = {}
    for name, unit in protocol.units.items():
        stated = _definition("metrics", name)
        meaning = stated["meaning"].format(penalty=PENALTY, **protocol.settings)
        metrics[name] = Metric(name, unit, stated["title"], meaning)
    return metrics


@cache
def _definition(kind: str, name: str) -> dict[str, Any]:
    return {"title": name, "meaning": ""} | read_yaml(Path(__file__).with_suffix(".yaml"))[kind].get(name, {})
