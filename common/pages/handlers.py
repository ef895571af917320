"""The handler that draws the page of an evaluation."""

import ignite.distributed as idist
from common.errors import one_line, show
from common.inference.publishing import PAGE, place_of
from ignite.engine import Engine, Events

__all__ = ["EvaluationPage"]


class EvaluationPage:
    """Draw evaluation.html when an evaluation is done. List it after `common.inference.EvaluationFiles`.

    A page that cannot be drawn does not end the evaluation; a line says why.

    Args:
        output_dir: folder of the evaluation's files.
    """

    def __init__(self, output_dir: str) -> None:
        self.folder = output_dir

    def attach(self, engine: Engine) -> None:
        """Draw the page of the evaluator `engine`, on the main process."""
        if idist.get_rank() == 0:
            engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        try:
            from common.pages.evaluation import write_page  # here: it needs packages that scores do not

            write_page(self.folder)
        except Exception as error:  # the scores are written, and are worth more than their page
            show(f"warning: {place_of(self.folder)}/{PAGE} was not drawn: {one_line(error)}", error=True)
