"""The handlers that write the files of an evaluation, and let all its results appear."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from ..data.modalities import count_missing, images_of, missing_in
from ..metrics.protocols import PRESENT, Protocol
from . import results
from .publishing import finish
from .segmentations import files_of

__all__ = ["EvaluationFiles", "Publish"]

LESION_FIGURES = {"lesionwise_dice": "lesion-wise Dice", "lesion_f1": "lesion F1"}  # of a protocol, the main one


class EvaluationFiles:
    """Write metrics.csv, lesions.csv, cases.json and summary.json; see `common.inference.write`.

    `common.pages.EvaluationPage` draws the page from these files.

    Args:
        output_dir: folder of the files.
        protocol: that measures the scores.
        cases: entries from `common.data.Datalist.load`; the first image is the background of the page's pictures.
        predictions: folder to which `SaveVolumed` writes the label maps.
        convention: of the label maps.
        name: title of the page.
        modalities: of the images, in channel order.
        main_process: whether this rank writes.

    Raises:
        InputError: a file cannot be written.
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
        main_process: bool = True,
    ) -> None:
        self.folder, self.protocol, self.convention, self.name = Path(output_dir), protocol, convention, name
        self.files = {case["subject"]: _files(case, modalities, predictions) for case in cases}
        self.missing = count_missing(cases, modalities)
        self.main_process = main_process
        self.summary: dict[str, Any] = {}

    def attach(self, engine: Engine) -> None:
        """Write when the evaluator `engine` is done; its key metric must be a `common.training.RegionScores`."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        if self.main_process:
            scores = engine.state.metric_details[engine.state.key_metric_name]
            files = [self.files[case] for case in scores]
            details = results.Details(self.name, self.convention, self.protocol, files, scores)
            self.summary = results.write(self.folder, details)

    def figures(self, engine: Engine) -> list[str]:
        """The number of cases, and a line for each region: mean Dice and the protocol's main figure of lesions."""
        cases = self.summary["cases"]
        counted = f"{cases} {'case' if cases == 1 else 'cases'} by {self.summary['protocol']}"
        lacking = [f"  without {names}: {count} cases" for names, count in self.missing.items()]
        return [counted, *lacking, *(_line(name, found) for name, found in self.summary["regions"].items())]


class Publish:
    """Let the results of an evaluation appear when it has ended, and others write to their folder.

    List it after the handlers that write.

    Args:
        output_dir: folder of the results, which were written to what `begin` returned for it.
    """

    def __init__(self, output_dir: str) -> None:
        self.folder = output_dir

    def attach(self, engine: Engine) -> None:
        """Publish when `engine` has ended without an error."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self) -> None:
        finish(self.folder)


def _line(region: str, found: Mapping[str, Any]) -> str:
    dice, present = found["dice"], found[PRESENT]
    line = f"  {region}: mean Dice {dice['mean']:.3f} (n={dice['n']}"
    if present["n"] < dice["n"]:
        mean = "" if present["mean"] is None else f"{present['mean']:.3f} "
        line += f"; {mean}over the {present['n']} that have the region"
    lesions = [f", {label} {found[name]['mean']:.3f}" for name, label in LESION_FIGURES.items() if name in found]
    return f"{line}){''.join(lesions)}"


def _files(case: Mapping[str, Any], modalities: Sequence[str], predictions: str) -> results.CaseFiles:
    (prediction,) = files_of(case["subject"], predictions)
    images, missing = images_of(case, modalities), missing_in(case, modalities)
    label, image = Path(case["label"]), images[0][1]
    return results.CaseFiles(case["subject"], prediction, label, image, missing=missing, modalities=images)
