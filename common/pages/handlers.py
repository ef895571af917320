"""Handlers that write the files and pages of an evaluation."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events

from ..data.modalities import count_missing, images_of, missing_in
from ..data.volumes import is_made_up
from ..errors import choice
from ..inference.publishing import finish
from ..inference.results import CaseFiles, Details
from ..inference.segmentations import files_of
from ..made import made_by
from ..metrics.protocols import PRESENT, Protocol
from .results import write

LESION_FIGURES = {"lesionwise_dice": "lesion-wise Dice", "lesion_f1": "lesion F1"}  # main lesion metric of a protocol


class EvaluationFiles:
    """Write metrics.csv, lesions.csv, cases.json, summary.json and the pages of an evaluation, on the main process.

    A page that cannot be drawn is a warning.

    Args:
        output_dir: Folder of the files.
        protocol: Scoring protocol.
        cases: Entries from `common.data.Datalist.load`; the first image is the background of the page's pictures.
        predictions: Folder of the label maps from `SaveVolumed`.
        convention: Label convention of the label maps.
        name: Title of the page.
        modalities: Modalities of the images, in channel order.
        slices: Cases with a page to scroll through: none, chosen (those that evaluation.html shows) or all.
        settings: Settings of the run, whose cohort and checkpoints the pages name.

    Raises:
        InputError: `slices` is something else, or a file other than a page cannot be written.
    """

    def __init__(
        self,
        output_dir: str,
        protocol: Protocol,
        cases: Sequence[Mapping[str, Any]],
        predictions: str,
        convention: str,
        name: str,
        modalities: Sequence[str],
        slices: str = "chosen",
        settings: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.folder, self.protocol, self.convention, self.name = Path(output_dir), protocol, convention, name
        self.slices = choice("slices", slices, {name: name for name in ("none", "chosen", "all")})
        self.made = made_by(settings, any(is_made_up(case["label"]) for case in cases[:1]))
        self.missing = count_missing(cases, modalities)
        self.files = {}
        for case in cases:
            (prediction,) = files_of(case["subject"], predictions)
            images, missing = images_of(case, modalities), missing_in(case, modalities)
            label = Path(case["label"])
            self.files[case["subject"]] = CaseFiles(case["subject"], prediction, label, images, missing)
        self.summary: dict[str, Any] = {}

    def attach(self, engine: Engine) -> None:
        """Write after the evaluator `engine` has ended; its key metric must be a `common.training.RegionScores`."""
        if idist.get_rank() == 0:
            engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        scores = engine.state.metric_details[engine.state.key_metric_name]
        files = [self.files[case] for case in scores]
        details = Details(self.name, self.convention, self.protocol, files, scores, self.made)
        self.summary = write(self.folder, details, self.slices)

    def figures(self, engine: Engine) -> list[str]:
        """The number of cases, and for each region mean Dice and the protocol's main lesion metric."""
        cases = self.summary["cases"]
        counted = f"{cases} {'case' if cases == 1 else 'cases'} by {self.summary['protocol']}"
        lacking = [f"  without {names}: {count} cases" for names, count in self.missing.items()]
        return [counted, *lacking, *(_line(name, found) for name, found in self.summary["regions"].items())]


def _line(region: str, found: Mapping[str, Any]) -> str:
    dice, present = found["dice"], found[PRESENT]
    line = f"  {region}: mean Dice {dice['mean']:.3f} (n={dice['n']}"
    if present["n"] < dice["n"]:
        mean = "" if present["mean"] is None else f"{present['mean']:.3f} "
        line += f"; {mean}over the {present['n']} that have the region"
    lesions = [f", {label} {found[name]['mean']:.3f}" for name, label in LESION_FIGURES.items() if name in found]
    return f"{line}){''.join(lesions)}"


class Publish:
    """Publish the results of an evaluation after it has ended, and release their folder.

    List it after the handlers that write.

    Args:
        output_dir: Final folder of the results, as passed to `common.inference.begin`.
    """

    def __init__(self, output_dir: str) -> None:
        self.folder = output_dir

    def attach(self, engine: Engine) -> None:
        """Publish when `engine` has ended without an error."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self) -> None:
        finish(self.folder)
