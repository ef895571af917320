"""Evaluate many cases; a failed case does not stop the rest."""

from collections.abc import Iterator
from typing import Any

from ignite.engine import Engine
from monai.engines import SupervisedEvaluator

from ..errors import InputError, is_disk_full, one_line, show


class Predictor(SupervisedEvaluator):
    """MONAI's evaluator for batches of a single case: failed cases are reported on stderr, and the rest continue.

    The run ends with status 1 if a case failed, at once if the disk is full or read-only.
    """

    def __init__(self, val_data_loader: Any, **kwargs: Any) -> None:
        super().__init__(val_data_loader=_Attempts(val_data_loader), **kwargs)
        self.failures, self.cases = 0, len(val_data_loader)

    def run(self, global_epoch: int = 1) -> None:
        if not self.cases:
            show("nothing to do: every case has a result")
            return
        super().run(global_epoch)
        if self.failures:
            show(f"{self.failures} of {self.cases} cases failed", error=True)
            raise SystemExit(1)

    def _iteration(self, engine: Engine, batchdata: Any) -> Any:
        if isinstance(batchdata, Exception):  # a case that could not be read
            return self._fail(batchdata, "")
        try:
            return super()._iteration(engine, batchdata)
        except Exception as error:  # a failed case must not stop the next
            return self._fail(error, f"subject {batchdata['subject'][0]}: ")

    def _fail(self, error: Exception, subject: str) -> list[Any]:
        if is_disk_full(error):
            raise error
        self.failures += 1
        show(f"failed: {subject}{one_line(error)}", error=True)
        self.state.output = self.state.batch = []  # so that handlers see no case
        return []


class _Attempts:
    """Yield each batch of a loader, or the exception that reading it raised."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        batches = iter(self.loader)
        for _ in range(len(self.loader)):
            try:
                yield next(batches)
            except (InputError, MemoryError) as error:  # of a case; other errors are of the loader itself
                yield error
