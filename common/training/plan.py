"""The options, data, length and starting state of a training run."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.datalists import Datalist
from ..data.modalities import count_missing, first_image, missing_in
from ..data.preparation import describe, differences, refuse, spread, training_problems, union
from ..data.scan_checks import Problem
from ..data.transforms import absent_regions, measure_case
from ..data.volumes import is_made_up
from ..errors import ArgumentError, shortened, show
from ..files import digest
from ..options import Options, components
from ..weights.formats import measured_of
from .distributed import Processes
from .length import length
from .resume import describe as describe_change
from .resume import resumable
from .step import accumulation_steps


class Plan:
    """Read a training run's datalist, create its folders and find the state to resume.

    Attributes:
        data: Datalist of the run.
        accumulation_steps: Batches per optimiser step on each process.
        global_batch_size: Crops per optimiser step, over all processes.
        crops_per_volume: Crops from each volume in a batch.
        volumes_per_batch: Volumes per batch on each process.
        training_cases: Number of training cases, over all processes.
        length: Optimiser steps in the run, in a validation interval and in the warm-up; see `common.training.length`.
        settings: Settings for checkpoints and run.json, with the accepted changes of a resumed run.
        resumed_from: Saved state from which the run continues; None for a new run.

    Raises:
        InputError: The datalist, the length or a batch size is invalid; this run would replace the `pretrained` file; a
            folder cannot be written to or is in use by another process; or the options cannot continue the run in
            `ckpt_dir`.
    """

    def __init__(self, bundle: str, processes: Processes, options: Options) -> None:
        self.processes, self.options = processes, options
        batch_size = options.batch_size
        self.accumulation_steps = accumulation_steps(options.global_batch_size, batch_size, processes.count)
        self.global_batch_size = batch_size * self.accumulation_steps * processes.count
        self.data = Datalist(options.datalist, options.dataset_dir)
        self.crops_per_volume = getattr(options, "crops_per_volume", 1)
        self.volumes_per_batch = batch_size // self.crops_per_volume
        self.training_cases = len(self.data.load("training", must_exist=False, missing=()))
        cases_per_step = self.global_batch_size // self.crops_per_volume
        self.length = length(options, self.training_cases, cases_per_step)
        self.begin()
        self.settings = options.record(
            **self.length._asdict(),
            bundle=bundle,
            preparation=self.data.content.get("preparation"),
            **({"space": self.data.content["space"]} if "space" in self.data.content else {}),
            preprocessing="RAS orientation, z-score per channel (see normalization)",
            global_batch_size=self.global_batch_size,
            subjects=self.data.digest(),
            held_out=self.data.digest(("validation", "testing")),
            dataset=self.data.counts,
            components=components(),
            pretrained=options.pretrained and f"sha256:{digest(options.pretrained)}",
        )
        if hasattr(options, "modality_dropout"):
            self._record_missing()
        self._cases: dict[str, list[dict[str, Any]]] = {}
        if options.pretrained and Path(options.pretrained).resolve() == (Path(options.ckpt_dir) / "model.pt").resolve():
            problem = "this run would replace that file"
            raise ArgumentError("pretrained", options.pretrained, problem, "a checkpoint outside --ckpt_dir")
        self.resumed_from, changes = processes.on_main(
            lambda: resumable(options.ckpt_dir, options.resume, self.settings, options.resume_changes)
        )
        if changes:
            self.settings["changes"] = list(changes)
            if processes.is_main:
                show(*map(describe_change, changes))

    def begin(self) -> None:
        """Create and lock the run's folders on the main process; all processes must call this, and get its errors."""
        self.processes.on_main(self.options.make_folders)

    def measure(self) -> None:
        """Measure, record and print how a few training scans were prepared, and record whether these are synthetic.

        Raise `InputError` if their preparation differs from that of the resumed run's scans or, in a new run, of the
        pretrained network's, and `options.accept` does not allow the difference.
        """
        options = self.options
        cases = self.data.load("training", options.modalities, must_exist=False, missing=self._missing)
        measurements = {
            f"subject {case['subject']}: {first_image(case)}": measure_case(case, options.modalities)
            for case in spread(cases)
        }
        self.settings["measured"] = measured = union([*measurements.values()])
        self.settings["made_up"] = all(is_made_up(first_image(case)) for case in spread(cases))
        origin = self.resumed_from or options.pretrained
        expected = [] if origin is None else measured_of(origin)
        reference = union(expected) if expected else None
        different: dict[str, Problem] = {}
        for scan, ranges in measurements.items():
            different = differences(ranges, reference, options.spacing, scan) | different
        refuse(different, options.accept)
        if self.processes.is_main:
            show(f"scans: {describe(measured)}", *(f"accepted: {line}" for line in different.values()))
            doubted = training_problems(measurements, options.spacing)
            # Without pretraining, the default of `accept` must not hide doubts
            accepted = options.accept if options.pretrained else ()
            show(*(f"warning: {line}" for name, line in doubted.items() if name not in accepted), error=True)

    def _record_missing(self) -> None:
        """Record and print the modalities that training subjects lack."""
        modalities = self.options.modalities
        cases = self.data.load("training", modalities, must_exist=False, missing=())
        lacking = Counter(name for case in cases for name in {*missing_in(case, modalities)})
        self.settings["missing_modalities"] = [name for name in modalities if name in lacking]
        if self.processes.is_main:
            for names, count in count_missing(cases, modalities).items():
                show(f"missing: {names} in {count} training subjects; replaced by zeros")
            if unseen := [name for name in modalities if lacking[name] == len(cases)]:
                cause = f"no training subject has {' or '.join(unseen)}, so filters stay untrained"
                show(f"warning: --modalities={modalities}: {cause}; expected modalities that subjects have", error=True)

    def load(self, split: str) -> list[dict[str, Any]]:
        """Return the cases of a split, unchecked."""
        convention = getattr(self.options, "label_convention", None)
        return self.data.load(split, self.options.modalities, convention, missing=self._missing)

    def cases(self, split: str) -> list[dict[str, Any]]:
        """Return this process's share of the training or validation cases, with labels if there is a label convention.

        The first call checks the preparation of a few scans, and that each split's label maps have each region.
        """
        if not self._cases:
            loaded = {name: self.load(name) for name in ("training", "validation")}
            self._cases = {name: self.processes.share(name, cases) for name, cases in loaded.items()}
            self.processes.on_main(lambda: self._check_regions(loaded))
            if self.processes.is_main and (leaked := self.data.leaked):
                problem = f"visits of {shortened(leaked, most=3)} are in several splits"
                show(f"warning: datalist {self.data.path}: {problem}; expected each person in one split", error=True)
            self.measure()
        return self._cases[split]

    def _check_regions(self, cases: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """Warn of regions that no label map of a split contains."""
        convention = getattr(self.options, "label_convention", None)
        effects = {"training": "cannot be learnt", "validation": "does not count in the Dice that selects model.pt"}
        for split in effects:
            if convention is not None and (absent := absent_regions(cases[split], convention)):
                problem = f"absent from all label maps: {', '.join(absent)}"
                show(f"warning: split {split}: {problem}; an absent region {effects[split]}", error=True)

    @property
    def _missing(self) -> tuple[str, ...] | None:
        """Argument `missing` of `Datalist.load`: subjects may lack modalities, except in self-supervised training."""
        return () if hasattr(self.options, "modality_dropout") else None
