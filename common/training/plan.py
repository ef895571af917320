"""The options, data, length and starting state of a training run."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import ceil, log
from pathlib import Path
from typing import Any, NamedTuple

from ..data.datalists import Datalist
from ..data.names import count_missing, files_in, missing_in
from ..data.preparation import describe, differences, measure, refuse, spread, union
from ..data.regions import regions_of
from ..data.transforms import LoadScand, ToRASd
from ..data.volumes import Problem, is_made_up, labels_in, read_scan
from ..errors import ArgumentError, InputError, shortened, show, within
from ..files import digest
from ..options import Options, components
from ..values import OFF, OPTIONS, RESUMABLE, UNRECORDED
from ..weights.checkpoints import load, measured_of
from .distributed import Processes


class Length(NamedTuple):
    """Length of a training run in optimiser steps (`iterations`, a multiple of `val_interval`) and in epochs.

    In an epoch, each training case is read once on average.
    """

    iterations: int
    val_interval: int
    warmup_iterations: int
    epochs: float


def length(options: Options, cases: int, cases_per_step: int) -> Length:
    """Return the length of a training run from its options; raise `ArgumentError` if they are inconsistent.

    Options in epochs, such as "5 epochs", are rounded up to steps, and `iterations` then to whole intervals. With
    `iterations` in steps, `val_interval` becomes the divisor of `iterations` with the closest ratio to it. `cases` and
    `cases_per_step` are totals over all processes.
    """

    def steps(option: int | str) -> int:
        return option if isinstance(option, int) else ceil(Fraction(option.split()[0]) * cases / cases_per_step)

    iterations, interval, warmup = map(steps, (options.iterations, options.val_interval, options.warmup_iterations))
    if options.iterations == iterations:
        divisors = [number for number in range(1, iterations + 1) if iterations % number == 0]
        interval = min(divisors, key=lambda divisor: abs(log(divisor / interval)))
    elif iterations < interval:
        raise ArgumentError("iterations", options.iterations, f"shorter than val_interval={options.val_interval}")
    iterations = ceil(iterations / interval) * interval
    if warmup > iterations:
        raise ArgumentError("warmup_iterations", options.warmup_iterations, f"more than iterations={iterations}")
    return Length(iterations, interval, warmup, round(iterations * cases_per_step / cases, 2))


def measure_case(case: Mapping[str, Any], modalities: Sequence[str]) -> dict[str, list[Any]]:
    """Load the image of a case and measure how it was prepared; see `measure`."""
    with within(f"subject {case['subject']}"):
        image = ToRASd("image")(LoadScand("image", modalities)({"image": case["image"]}))["image"]
    return measure(image.numpy(), image.affine.numpy())


def absent_regions(cases: Sequence[Mapping[str, Any]], convention: str) -> list[str]:
    """Return the regions absent from all label maps of cases; raise `InputError` if none has a labelled voxel."""
    absent = regions_of(convention)
    for case in cases:
        if absent:  # until each region has occurred
            labels = labels_in(case["label"], read_scan(case["label"])[1])
            absent = {name: region for name, region in absent.items() if not region & labels}
    if cases and len(absent) == len(regions_of(convention)):
        raise InputError(f"label map {cases[0]['label']}", f"no labelled voxel in this or any of {len(cases)}")
    return list(absent)


class Plan:
    """Read a training run's datalist, create its folders and find the state to resume."""

    def __init__(self, bundle: str, processes: Processes, options: Options) -> None:
        self.processes, self.options = processes, options
        crops = getattr(options, "crops_per_volume", 1)
        at_a_time = options.batch_size * processes.count
        global_batch_size = options.global_batch_size or at_a_time
        self.accumulation_steps, rest = divmod(global_batch_size, at_a_time)  # batches per step on each process
        if rest:
            expected = f"a multiple of {at_a_time} (batch_size={options.batch_size} x {processes.count} processes)"
            raise ArgumentError("global_batch_size", global_batch_size, expected=expected)
        self.volumes_per_batch = options.batch_size // crops  # on each process
        self.data = Datalist(options.datalist, options.dataset_dir)
        cases = self.data.load("training", options.modalities, must_exist=False, missing=())
        self.training_cases = len(cases)  # over all processes
        self.length = length(options, self.training_cases, global_batch_size // crops)
        processes.on_main(options.make_folders)
        self.settings = options.record(  # for checkpoints and run.json
            **self.length._asdict(),
            bundle=bundle,
            preparation=self.data.content.get("preparation"),
            space=self.data.content.get("space"),
            preprocessing="RAS orientation, z-score per channel (see normalization)",
            global_batch_size=global_batch_size,
            subjects=self.data.digest(),
            dataset={"name": self.data.content["name"], **Counter(self.data.splits.values())},
            components=components(),
            pretrained=options.pretrained and f"sha256:{digest(options.pretrained)}",
        )
        self.convention: str | None = getattr(options, "label_convention", None)  # None in self-supervised training
        if self.convention:
            missing = {name for case in cases for name in missing_in(case, options.modalities)}
            self.settings["missing_modalities"] = [name for name in options.modalities if name in missing]
            if processes.is_main:
                for names, count in count_missing(cases, options.modalities).items():
                    show(f"missing: {names} in {count} training subjects; replaced by zeros")
        self._cases: dict[str, list[dict[str, Any]]] = {}
        # Saved state from which the run continues; None for a new run
        self.resumed_from = processes.on_main(lambda: resumable(Path(options.ckpt_dir), options.resume, self.settings))

    @property
    def name(self) -> str:
        """Name of the run in trackers."""
        return f"{self.settings['bundle']} {Path(self.options.output_dir).resolve()}"

    def cases(self, split: str) -> list[dict[str, Any]]:
        """Return this process's share of the training or validation cases, with labels if there is a label convention.

        The first call checks labels and splits, and measures the preparation of the scans.
        """
        if not self._cases:
            missing = () if self.convention else None  # in self-supervised training, no subject may lack modalities
            cases = {
                name: self.data.load(name, self.options.modalities, self.convention, missing=missing)
                for name in ("training", "validation")
            }
            self._cases = {name: self._share(cases[name]) for name in cases}
            self.processes.on_main(lambda: self._check_splits(cases))
            self.measure(spread(cases["training"]))
        return self._cases[split]

    def people(self, split: str) -> list[str]:
        """Return the person of each of `cases(split)`."""
        return [self.data.people[case["subject"]] for case in self.cases(split)]

    def _share(self, cases: Sequence[Any]) -> list[Any]:
        """Return this process's share of cases; in self-supervised training, a person's cases are shared as one."""
        person_of = self.data.people
        people = [*dict.fromkeys(person_of[case["subject"]] for case in cases)]
        if self.convention or len(people) < self.processes.count:
            return self.processes.share(cases)
        shared = {*self.processes.share(people)}
        return [case for case in cases if person_of[case["subject"]] in shared]

    def _check_splits(self, cases: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """Warn of people in several splits and of regions absent from a split."""
        if leaked := self.data.leaked:
            problem = f"visits of {shortened(leaked, most=3)} are in several splits"
            show(f"warning: datalist {self.data.path}: {problem}; expected each person in one split", error=True)
        for split in cases if self.convention else ():
            if absent := absent_regions(cases[split], str(self.convention)):
                show(f"warning: split {split}: absent from all label maps: {', '.join(absent)}", error=True)

    def measure(self, cases: Sequence[Mapping[str, Any]]) -> None:
        """Measure, record and print how some training scans were prepared, and record whether these are synthetic.

        Raise `InputError` if their preparation differs from that of the resumed run's scans or, in a new run, of the
        pretrained network's, and `options.accept` does not allow the difference. Without either, warn of scans that
        differ from the first.
        """
        options = self.options
        measurements = {
            f"subject {case['subject']}: {files_in(case)[0]}": measure_case(case, options.modalities) for case in cases
        }
        self.settings["measured"] = measured = union([*measurements.values()])
        self.settings["made_up"] = all(is_made_up(files_in(case)[0]) for case in cases)
        origin = self.resumed_from or options.pretrained
        expected = [] if origin is None else measured_of(origin)
        resampled = {"spacing": [options.spacing] * 2} if options.spacing else {}
        reference = union(expected or [next(iter(measurements.values())) | resampled])
        problems: dict[str, Problem] = {}
        for scan, ranges in measurements.items():
            problems = differences(ranges, reference, scan, options.spacing) | problems
        doubts = {} if expected else {name: line for name, line in problems.items() if name != "alignment"}
        different = {name: line for name, line in problems.items() if name not in doubts}
        refuse(different, options.accept)
        if self.processes.is_main:
            show(f"scans: {describe(measured)}", *(f"accepted: {line}" for line in different.values()))
            show(*(f"warning: {line}" for line in doubts.values()), error=True)


def resumable(folder: Path, resume: bool | str, settings: Mapping[str, Any]) -> Path | None:
    """Return the saved state `iteration-N.pt` from which a run continues; None for a new run.

    `resume` is True (continue from the last state), "auto" (from the last one, if any) or False (neither a state nor
    model.pt may exist). Raise `InputError` if a setting that affects the result differs.
    """
    states = saved_states(folder)
    if not resume and (earlier := [*states, *folder.glob("model.pt")]):
        advice = "resume=true to continue it, or " if states else ""
        problem = f"holds the {earlier[0].name} of an earlier run"
        raise ArgumentError("ckpt_dir", folder, problem, f"{advice}another folder")
    if resume is True and not states:
        raise ArgumentError("resume", "true", f"no iteration-N.pt in {folder}")
    if not states:
        return None
    _check_settings(load(states[-1]).get("metadata") or {}, settings, states[-1])
    return states[-1]


def saved_states(folder: Path) -> list[Path]:
    """Return the `iteration-N.pt` files of a folder, oldest first."""
    files = (path for path in folder.glob("iteration-*.pt") if re.fullmatch(r"iteration-\d+", path.stem))
    return sorted(files, key=lambda file: int(file.stem.removeprefix("iteration-")))


def _check_settings(before: Mapping[str, Any], now: Mapping[str, Any], file: Path) -> None:
    """Raise `InputError` if a setting that affects the result differs from that of the saved run."""
    if before.get("subjects") != now.get("subjects"):
        raise ArgumentError("datalist", now.get("datalist"), f"subjects or splits differ from those of {file}")
    # Options that one of both lacks are off; other settings may be known only later in a run
    names = (now.keys() & before.keys()) | ((now.keys() | before.keys()) & ((OPTIONS.keys() | OFF) - UNRECORDED))
    names -= RESUMABLE | {"epochs", "components"}  # epochs follow from the iterations
    earlier, current = ({**OFF, **settings, **settings.get("components", {})} for settings in (before, now))
    for name in [*sorted(names), *now.get("components", {})]:  # components last: they contain options' values
        if earlier.get(name) != current.get(name):
            problem = f"the run to resume has {earlier.get(name)}, which cannot change"
            raise ArgumentError(name, current.get(name), problem)
