"""Quality measures of a prepared subject, without ground truth; definitions in docs/explanation/preparation.md."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

UNITS = {"volume": "mL"}  # the rest are dimensionless
LIMITS = {  # lowest and highest acceptable values; sources in docs/explanation/preparation.md
    "subject": {"overlap": (0.925, 1.0), "volume": (1000.0, 2100.0), "scale": (0.8, 1.25), "agreement": (0.94, 1.0)},
    "reference": {"coverage": (0.98, 1.0), "information": (0.02, 1.0)},
    "modality": {"coverage": (0.98, 1.0), "information": (0.05, 1.0)},
}


class Row(NamedTuple):
    """A quality measure of a modality ("" for the subject), with its lowest and highest acceptable values."""

    modality: str
    name: str
    value: float
    lowest: float
    highest: float

    @property
    def text(self) -> str:
        """The measure in words, such as "T1 coverage 0.99" or "volume 1430 mL"."""
        value = f"{self.value:.0f}" if self.value >= 100 else f"{self.value:.3g}"
        return f"{self.modality} {self.name} {value} {UNITS.get(self.name, '')}".strip()

    def __str__(self) -> str:
        return f"{self.text}; expected {self.lowest:g} to {self.highest:g} {UNITS.get(self.name, '')}".rstrip()


@dataclass(frozen=True)
class Figures:
    """Quality measures of a prepared subject and its modalities, by name."""

    reference: str
    subject: Mapping[str, float]
    modalities: Mapping[str, Mapping[str, float]]

    def rows(self) -> list[Row]:
        """Return a `Row` for each quality measure."""
        table = [Row("", name, value, *LIMITS["subject"][name]) for name, value in self.subject.items()]
        for modality, values in self.modalities.items():
            limits = LIMITS["reference" if modality == self.reference else "modality"]
            table += [Row(modality, name, value, *limits[name]) for name, value in values.items()]
        return table

    def outside(self) -> list[Row]:
        """Return a `Row` for each quality measure outside its limits."""
        return [row for row in self.rows() if not row.lowest <= row.value <= row.highest]
