"""Quality measures of a prepared subject: their limits, and likely causes of bad values; imports nothing slow."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

UNITS = {"volume": "mL"}  # the rest are dimensionless; definitions in docs/explanation/preparation.md
LIMITS = {  # lowest and highest acceptable values; sources in docs/explanation/preparation.md
    "subject": {"overlap": (0.925, 1.0), "volume": (1000.0, 2100.0), "scale": (0.8, 1.25), "agreement": (0.94, 1.0)},
    "reference": {"coverage": (0.98, 1.0), "information": (0.02, 1.0)},
    "modality": {"coverage": (0.98, 1.0), "information": (0.05, 1.0)},
}
FAILED = 0.5  # overlap; half a brain has 0.67
UNLIKE = 0.03  # information of the reference; below it, an overlap outside its limits is a failed registration
NEAR = 0.05  # share of a limit by which a figure may miss it for `--accept` to be offered
MASKS = "give masks by HD-BET or SynthStrip to scripts.prepare (--brain)"


@dataclass(frozen=True)
class Figures:
    """Quality measures of a prepared subject and its modalities, by name; see docs/explanation/preparation.md."""

    reference: str
    subject: Mapping[str, float]
    modalities: Mapping[str, Mapping[str, float]]


class Row(NamedTuple):
    """A quality measure of a modality ("" for the subject), with its lowest and highest acceptable values."""

    modality: str
    name: str
    value: float
    lowest: float
    highest: float

    def __str__(self) -> str:
        unit = f" {UNITS[self.name]}" if self.name in UNITS else ""
        figure = f"{self.modality} {self.name} {in_units(self.name, self.value)}".lstrip()
        return f"{figure}; expected {self.lowest:g} to {self.highest:g}{unit}"


def rows(figures: Figures) -> list[Row]:
    """Return a `Row` for each quality measure."""
    table = [Row("", name, value, *LIMITS["subject"][name]) for name, value in figures.subject.items()]
    for modality, values in figures.modalities.items():
        limits = LIMITS["reference" if modality == figures.reference else "modality"]
        table += [Row(modality, name, value, *limits[name]) for name, value in values.items()]
    return table


def rows_outside(figures: Figures) -> list[Row]:
    """Return a `Row` for each quality measure outside its limits."""
    return [row for row in rows(figures) if not row.lowest <= row.value <= row.highest]


def in_units(name: str, value: float) -> str:
    """Format the value of a quality measure: three digits, no decimals from 100 on, then the unit, if any."""
    return " ".join([f"{value:.0f}" if value >= 100 else f"{value:.3g}", *([UNITS[name]] if name in UNITS else [])])


def outside(figures: Figures, cause: str = "") -> list[str]:
    """Return a phrase for each quality measure outside its limits, then for the likely `cause`, if any."""
    phrases = [*map(str, rows_outside(figures))]
    return [*phrases, f"probably {cause}"] if phrases and cause else phrases


def has_failed(figures: Figures) -> bool:
    """Return whether the registration of the reference to the template has failed."""
    overlap, shared = figures.subject["overlap"], figures.modalities[figures.reference]["information"]
    return overlap < FAILED or (overlap < LIMITS["subject"]["overlap"][0] and shared < UNLIKE)


def may_be_right(figures: Figures) -> bool:
    """Return whether a picture can decide: all figures are near their limits, and no registration has failed."""
    return not has_failed(figures) and all(
        row.name != "information" and row.lowest * (1 - NEAR) <= row.value <= row.highest * (1 + NEAR)
        for row in rows_outside(figures)
    )


def likely_cause(figures: Figures, is_stripped: bool) -> str:
    """Describe the likely cause of quality measures outside their limits, with the evidence; "" without evidence."""
    limits, overlap = LIMITS["subject"], figures.subject["overlap"]
    if has_failed(figures):
        shared = figures.modalities[figures.reference]["information"]
        misfit = f"its shape (overlap {overlap:.3g}) and its content (information {shared:.2g}) do not fit the template"
        question = f"is this a {figures.reference} of a whole head? If it is, its header is turned against the data"
        return f"a failed registration: {misfit}; {question}"
    coverage, worst = min((values["coverage"], name) for name, values in figures.modalities.items())
    if coverage < LIMITS["modality"]["coverage"][0]:
        cut = f"{1 - coverage:.0%} of the brain lies outside that of {worst}"
        return f"a cut field of view: {cut}; acceptable if only the lowest part is missing"
    if overlap < limits["overlap"][0] and is_stripped:
        return "a poor skull-stripping before the preparation; give the raw scan"
    if figures.subject.get("agreement", 1.0) < limits["agreement"][0]:
        return f"a wrong brain, here or in the mirrored scan: if it is here, {MASKS}"
    if figures.subject["volume"] < limits["volume"][0]:
        volume = f"{figures.subject['volume']:.0f} mL"
        return f"a small brain, {volume}, as of a child: {MASKS}"
    return ""
