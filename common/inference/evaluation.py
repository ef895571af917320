"""The handler that writes the files of an evaluation."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from common.inference import results
from common.inference.segmentations import files_of
from common.metrics.protocols import Protocol

__all__ = ["EvaluationFiles"]


class EvaluationFiles:
    """Write metrics.csv, lesions.csv, cases.json and summary.json; see `common.inference.write`.

    `python -m scripts.evaluate page OUTPUT_DIR` draws the page from these files.

    Args:
        output_dir: folder of the files.
        protocol: that measures the scores.
        cases: entries from `common.data.Datalist.load`; the first image is the background of the page's pictures.
        predictions: folder to which `SaveVolumed` writes the label maps.
        convention: of the label maps.
        name: title of the page.
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
        main_process: bool = True,
    ) -> None:
        self.folder, self.protocol, self.convention, self.name = Path(output_dir), protocol, convention, name
        self.files = {case["subject"]: _files(case, predictions) for case in cases}
        self.main_process = main_process

    def attach(self, engine: Engine) -> None:
        """Write when the evaluator `engine` is done; its key metric must be a `common.training.RegionScores`."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        if self.main_process:
            scores = engine.state.metric_details[engine.state.key_metric_name]
            files = [self.files[case] for case in scores]
            results.write(self.folder, scores, self.protocol, files, self.convention, self.name)


def _files(case: Mapping[str, Any], predictions: str) -> results.CaseFiles:
    (prediction,) = files_of(case["subject"], predictions)
    return results.CaseFiles(case["subject"], prediction, Path(case["label"]), Path(case["image"][0]))
