"""Prepare the scans of a study as the model expects them (`--prepare`), and bring its result back to the study."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.prepare.brain import DEEPBET
from common.prepare.figures import Figures, lines, outside
from common.prepare.resampling import labels_on
from common.prepare.subject import Settings, default_reference, prepare_subject
from common.prepare.volumes import Grid, Volume, check_scan
from deploy.study import Series
from deploy.tasks import Task

__all__ = ["Preparation", "prepare_scans"]


@dataclass(frozen=True)
class Preparation:
    """How scans were prepared, and how well.

    Attributes:
        settings: of `common.prepare`.
        figures: that it measured.
        back: [4, 4] from mm of the reference series to mm of the prepared scans, RAS+.
    """

    settings: Settings
    figures: Figures
    back: NDArray[np.float64]

    @property
    def lines(self) -> list[str]:
        """Its figures in words, a line each for the brain and for each modality."""
        return lines(self.figures)

    @property
    def remarks(self) -> list[str]:
        """That the scans were prepared, and which figures are outside their limits."""
        return [
            f"scans prepared by this application: {self.settings.description}",
            *(f"preparation: {phrase}" for phrase in outside(self.figures)),
        ]

    def record(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return {"description": self.settings.description, "figures": self.figures.record()}

    def segments_on(self, grid: Grid, segments: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Segments of the prepared scans on the grid of the reference series; see `labels_on`."""
        return labels_on(Volume(segments, self.settings.grid.affine), grid, self.back).array


def prepare_scans(
    volumes: Mapping[str, Volume], series: Mapping[str, Series], task: Task, reference: str
) -> tuple[dict[str, Volume], Preparation]:
    """Register the scans of a study, extract the brain if the model expects that, and resample them.

    Args:
        volumes: modality -> volume as it was scanned.
        series: modality -> its series, for messages.
        task: of the model.
        reference: modality on whose series the result is to lie. Registration has a reference of its own, T1.

    Returns:
        Modality -> prepared volume, and how they were prepared.

    Raises:
        InputError: a volume is no scan of a head, or they do not show one head.
    """
    for modality, volume in volumes.items():
        check_scan(volume, series[modality].name)
    names = tuple(volumes)
    settings = replace(Settings.like(task.cohort), modalities=names, reference=default_reference(names))
    if task.skull_stripped != (settings.brain != "none"):  # trained on other scans than the cohort of its task
        settings = replace(settings, brain=DEEPBET if task.skull_stripped else "none")
    try:
        prepared = prepare_subject(volumes, settings)
    except InputError as error:
        raise InputError(f"--prepare: {error}") from error
    back = np.asarray(np.linalg.inv(prepared.matrices[reference]), np.float64)
    return dict(prepared.images), Preparation(settings, prepared.figures, back)
