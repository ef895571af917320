"""The Ignite handler that writes the files and pages of an evaluation."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events

from ..data.modalities import images_of, missing_in
from ..data.provenance import cohort_of
from ..data.volumes import is_made_up
from ..inference.publishing import final_folder, finish
from ..inference.results import CaseFiles, Details
from ..inference.tables import files_of
from ..made import origin_of
from ..metrics.cards import Protocol
from .results import write


class EvaluationFiles:
    """Handler that writes the files and pages of an evaluation, then moves them into the results folder together.

    List this handler after the handlers that write to the same folder.

    Args:
        output_dir: Folder of the unfinished results, from `common.inference.begin`.
        protocol: Scoring protocol.
        cases: Entries from `common.data.Datalist.load`.
        predictions: Folder of the label maps from `SaveVolumed`.
        convention: Label convention of the label maps.
        name: Title of the page, unless `settings` name the cohort.
        modalities: Modalities of the images, in channel order.
        slices: Cases with a page of slices: none, chosen (those on evaluation.html) or all.
        settings: Settings of the run; the pages state its cohort and checkpoints.
        background: Modality of the pictures; None: the modality in which the labels have the highest contrast.

    Raises:
        InputError: a file other than a page cannot be written; a failed page is only a warning.
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
        background: str | None = None,
    ) -> None:
        self.folder, self.slices = Path(output_dir), slices
        self.made = origin_of(settings, any(is_made_up(case["label"]) for case in cases[:1]))
        title = cohort_of(settings) or name
        self.details = Details(title, convention, protocol, [], {}, self.made, background)
        self.files = {}
        for case in cases:
            (prediction,) = files_of(case["subject"], predictions)
            images, missing = images_of(case, modalities), missing_in(case, modalities)
            self.files[case["subject"]] = CaseFiles(case["subject"], prediction, Path(case["label"]), images, missing)
        self.lines: list[str] = []

    def attach(self, engine: Engine) -> None:
        """Write the results, on the main process, when the evaluator `engine` ends without an error.

        The evaluator's key metric must be a `common.training.RegionScores`.
        """
        if idist.get_rank() == 0:
            engine.add_event_handler(Events.EPOCH_COMPLETED, self)
            engine.add_event_handler(Events.COMPLETED, finish, final_folder(self.folder))

    def __call__(self, engine: Engine) -> None:
        scores = engine.state.metric_details[engine.state.key_metric_name]
        details = self.details._replace(files=[self.files[case] for case in scores], scores=scores)
        self.lines = write(self.folder, details, self.slices)

    def figures(self, engine: Engine) -> list[str]:
        """Return the lines of the evaluation's printed summary."""
        return self.lines
