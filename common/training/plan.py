"""A training's options, data and starting state."""

from typing import Any

from common.data.datalists import Datalist
from common.options import Options
from common.training.distributed import Processes
from common.training.resume import resumable
from common.training.step import accumulation_steps

__all__ = ["Plan"]


class Plan:
    """Read a training's datalist, make its folders and find the state to resume, before anything else happens.

    Args:
        bundle: its name.
        network: class of the network; SSLHead learns from two views of each crop.
        preprocessing: of the images, in words, for the record.
        processes: that train together.
        options: of the config, checked.

    Attributes:
        data: `common.data.Datalist`.
        accumulation_steps: batches of an optimiser step.
        settings: what the checkpoint and run.json keep.
        resumed_from: the state that the run continues from, if any.

    Raises:
        InputError: the datalist is invalid, a folder cannot be written to, or `ckpt_dir` holds a run that does not fit.
    """

    def __init__(self, bundle: str, network: str, preprocessing: str, processes: Processes, options: Options) -> None:
        self.processes, self.options = processes, options
        options.make_folders()
        batch_size = options.batch_size
        self.accumulation_steps = accumulation_steps(self.options.global_batch_size, batch_size, processes.count)
        self.data = Datalist(self.options.datalist, self.options.dataset_dir)
        self.settings = self.options.record(
            bundle=bundle,
            network=network,
            preparation=self.data.preparation,
            preprocessing=preprocessing,
            global_batch_size=batch_size * self.accumulation_steps * processes.count,
            subjects=self.data.digest,
        )
        self.resumed_from = resumable(self.options.ckpt_dir, self.options.resume, self.settings)

    def cases(self, split: str) -> list[dict[str, Any]]:
        """The share of a split that belongs to this process, with labels if the bundle has a label convention.

        Raises:
            InputError: see `common.data.Datalist.load` and `common.training.Processes.share`.
        """
        convention = getattr(self.options, "label_convention", None)
        return self.processes.share(split, self.data.load(split, self.options.modalities, convention))
