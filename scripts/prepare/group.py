"""Compare the quality figures (overlap, volume, coverage, ...) of all subjects: charts, and outliers."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from common.pages.charts import group_chart
from scripts.prepare.figures import UNITS, Figures, in_units, rows

LEAST = 8  # subjects; with fewer, the median and spread say little
OUTLYING = 3.5  # modified z-score (Iglewicz and Hoaglin, How to detect and handle outliers, 1993)
NOTABLE = 0.05  # smallest deviation from the median, as a share of the range between the limits


class Spread(NamedTuple):
    """A quality figure, such as overlap or the coverage of a modality: its values by subject, and its limits."""

    figure: str
    modality: str  # "" for a figure of the subject
    values: dict[str, float]  # by subject
    limits: tuple[float, float]

    @property
    def outliers(self) -> dict[str, float]:
        """The values far from the median, by subject; empty for fewer than `LEAST` subjects."""
        numbers = np.array([*self.values.values()])
        if len(numbers) < LEAST:
            return {}
        deviations = np.abs(numbers - np.median(numbers))
        far = 0.6745 * deviations > OUTLYING * np.median(deviations)
        far &= deviations > NOTABLE * (self.limits[1] - self.limits[0])
        return {name: value for (name, value), is_far in zip(self.values.items(), far, strict=True) if is_far}

    def __str__(self) -> str:
        names = ", ".join(f"{name} ({in_units(self.figure, value)})" for name, value in self.outliers.items())
        median = in_units(self.figure, float(np.median([*self.values.values()])))
        return f"{self.modality} {self.figure}: {names}; median {median}".strip()


def spreads(figures: Mapping[str, Figures]) -> list[Spread]:
    """Return a `Spread` for each quality figure of whole subjects, and for each quality figure of each modality."""
    by_figure: dict[tuple[str, str], Spread] = {}
    for subject, of_subject in figures.items():
        for modality, figure, value, lowest, highest in rows(of_subject):
            spread = by_figure.setdefault((figure, modality), Spread(figure, modality, {}, (lowest, highest)))
            spread.values[subject] = value
    return sorted(by_figure.values(), key=lambda spread: spread.modality != "")


def charts(compared: list[Spread]) -> list[Markup]:
    """Return a chart of each quality figure, with a row for each modality."""
    drawn = []
    for figure in dict.fromkeys(spread.figure for spread in compared):
        same = [spread for spread in compared if spread.figure == figure]
        unit = f" ({UNITS[figure]})" if figure in UNITS else ""
        drawn.append(
            group_chart(
                figure + unit,
                {spread.modality or "brain": spread.values for spread in same},
                {spread.modality or "brain": spread.limits for spread in same},
                {spread.modality or "brain": spread.outliers for spread in same},
            )
        )
    return drawn


def in_words(figures: Figures) -> str:
    """Return a subject's quality figures as text, such as "overlap 0.951, volume 1430 mL; T1: coverage 1"."""
    parts: dict[str, list[str]] = {}
    for modality, figure, value, _, _ in rows(figures):
        parts.setdefault(modality, []).append(f"{figure} {in_units(figure, value)}")
    return "; ".join((f"{modality}: " if modality else "") + ", ".join(words) for modality, words in parts.items())
