"""The handlers that draw the page of an evaluation, and pages of slices."""

from collections.abc import Mapping, Sequence
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events

from ..data.modalities import images_of, missing_in
from ..errors import choice, one_line, show
from ..inference.publishing import PAGE, SLICES, place_of
from ..inference.results import CaseFiles
from ..inference.segmentations import files_of

__all__ = ["EvaluationPage", "SlicePages"]


class EvaluationPage:
    """Draw evaluation.html when an evaluation is done. List it after `common.inference.EvaluationFiles`.

    A page that cannot be drawn does not end the evaluation; a line says why.

    Args:
        output_dir: folder of the evaluation's files.
        slices: cases that get a page to scroll through: none, chosen (those that evaluation.html shows) or all.

    Raises:
        InputError: `slices` is something else.
    """

    def __init__(self, output_dir: str, slices: str = "chosen") -> None:
        self.folder = output_dir
        self.slices = choice("slices", slices, {name: name for name in ("none", "chosen", "all")})

    def attach(self, engine: Engine) -> None:
        """Draw the page of the evaluator `engine`, on the main process."""
        if idist.get_rank() == 0:
            engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        try:
            from .evaluation import write_page  # here: it needs packages that scores do not

            write_page(self.folder, self.slices)
        except Exception as error:  # the scores are written, and are worth more than their page
            show(f"warning: {place_of(self.folder)}/{PAGE} was not drawn: {one_line(error)}", error=True)


class SlicePages:
    """Write OUTPUT_DIR/slices/SUBJECT.html, a page to scroll through the label map of each subject of an inference.

    A page that cannot be written does not end the inference; a line says why.

    Args:
        output_dir: folder of the label maps.
        cases: entries with `subject` and `image`, as `common.inference.find_cases` returns them.
        modalities: of the images, in channel order.
        convention: of the label maps.
        slices: none or all.

    Raises:
        InputError: `slices` is something else.
    """

    def __init__(
        self,
        output_dir: str,
        cases: Sequence[Mapping[str, Any]],
        modalities: Sequence[str],
        convention: str,
        slices: str = "all",
    ) -> None:
        self.folder, self.modalities, self.convention = output_dir, list(modalities), convention
        self.images = {case["subject"]: case for case in cases}
        self.writes = choice("slices", slices, {"none": False, "all": True})

    def attach(self, engine: Engine) -> None:
        """Write the pages of each batch of `engine`, when `common.inference.SaveVolumed` has written its label maps."""
        if self.writes:
            engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        for item in engine.state.batch if engine.state.output else []:
            try:
                from .slices import write_subject  # here: it needs packages that label maps do not

                write_subject(self.folder, self._files(item["subject"]), self.convention)
            except Exception as error:  # the label map is written, and is worth more than its page
                page = f"{self.folder}/{SLICES}/{item['subject']}.html"
                show(f"warning: {page} was not written: {one_line(error)}", error=True)

    def _files(self, subject: str) -> CaseFiles:
        case = self.images[subject]
        images = images_of(case, self.modalities)
        (label,) = files_of(subject, self.folder)
        missing = missing_in(case, self.modalities)
        return CaseFiles(subject, None, label, images[0][1], missing=missing, modalities=images)
