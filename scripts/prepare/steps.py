"""Prepare raw scans, and resample label maps to raw grids, for `scripts.prepare` and `scripts.segment`.

Messages name options, so both commands must give an option the same name.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from common import made as origin
from common.data.scan_checks import broken_file
from common.errors import ArgumentError, InputError, check_number, choice, shortened, show
from common.files import expand_home
from common.made import Results
from common.values import DEVICE
from scripts.prepare.outcome import RECORD, Outcome
from scripts.prepare.scans import PAGE, find_subjects
from scripts.prepare.settings import Settings


@dataclass(frozen=True)
class ScanOptions:
    """Options of `python -m scripts.prepare` that `Settings` lacks; an invalid value raises `InputError`."""

    patterns: Mapping[str, str] | None
    labels: str | None
    missing: str
    accept: str | None
    jobs: int

    def __post_init__(self) -> None:
        check_number("jobs", self.jobs, int, 1, 1024)
        choice("missing", self.missing, ("refuse", "keep"))


def prepare_scans(root: Path, output: Path, settings: Settings, options: ScanOptions) -> list[Outcome]:
    """Prepare the subjects of a folder and print a summary."""
    DEVICE.parse("device", settings.device)
    names, patterns = settings.modalities, options.patterns
    masks = settings.brain if "*" in settings.brain else None
    keeps = options.missing == "keep"
    subjects = find_subjects(root, names, patterns or {}, options.labels, keeps, masks)
    accepted = accepted_of(options.accept, [subject.name for subject in subjects])
    from scripts.prepare.cohort import prepare_cohort  # late import: slow

    outcomes = prepare_cohort(subjects, settings, output, options.jobs, accepted)
    _report(outcomes, f"prepared: {output / PAGE} (look at it: the contrast is not checked)")
    return outcomes


def send_all(
    files: Mapping[str, Path], prepared: Path, target: Path, modality: str | None = None, jobs: int = 1
) -> list[Outcome]:
    """Resample label maps (`files`, by prepared subject) to the grids of the raw scans, and print a summary.

    An undamaged result of the same label map and preparation stays, because the user may have corrected it by hand.
    """
    from scripts.prepare.cohort import run_in_processes  # late imports: slow
    from scripts.prepare.subjects import send_back

    source = origin.read(next(iter(files.values())).parent) or {"checkpoints": {}, "settings": {}}
    stated = {name: origin.stated(source, name) for name in origin.FACTS}
    made = origin.origin_of({}) | stated | {"checkpoints": source["checkpoints"], "settings": {"modality": modality}}
    results, inputs = Results(target, made), {name: [path, prepared / name / RECORD] for name, path in files.items()}
    work = {
        name: partial(send_back, path, name, prepared, target, modality)
        for name, path in files.items()
        if not results.is_current(name, inputs[name]) or broken_file([target / f"{name}.nii.gz"])
    }
    outcomes = [*(Outcome(name) for name in files if name not in work), *run_in_processes(work, jobs, "label map")]
    if written := [outcome.name for outcome in outcomes if outcome.is_new]:
        results.add({name: inputs[name] for name in written})
    _report(outcomes, f"written to {target}" if written else "nothing written")
    return outcomes


def accepted_of(accept: str | None, subjects: Sequence[str]) -> list[str]:
    """Return the subjects that the option `accept` names, separated by commas; raise an InputError for unknown ones."""
    if accept is None or accept in subjects:
        return [accept] if accept else []
    chosen = str(accept).split(",")
    if unknown := next((name for name in chosen if name not in subjects), None):
        raise ArgumentError("accept", accept, f"no such subject: {unknown}", f"some of {shortened(subjects, 12)}")
    return chosen


def output_folder(output: str, *sources: Path) -> Path:
    """Return the output folder; raise an InputError if it lies in an input folder."""
    name = f"--output={output}"
    folder = expand_home(output, name)
    if source := next((path for path in sources if folder.resolve().is_relative_to(path.resolve())), None):
        raise InputError(f"{name}: lies in {source}; expected a folder outside the input")
    return folder


def _report(outcomes: Sequence[Outcome], done: str) -> None:
    """Print remarks and a summary."""
    show(*(f"{outcome.name}: remark: {remark}" for outcome in outcomes for remark in outcome.remarks))
    failed = [outcome.name for outcome in outcomes if outcome.fault]
    outside = [outcome for outcome in outcomes if outcome.is_left_out]
    new = sum(outcome.is_new for outcome in outcomes)
    counts = [
        f"{new} new",
        f"{len(outcomes) - new - len(failed)} done before",
        f"{len(failed)} failed" + (f" ({shortened(failed)})" if failed else ""),
        f"{len(outside)} outside limits",
    ]
    show(f"{', '.join(counts)}; {done}")
    for outcome in outside:
        if outcome.may_be_right:
            show(f"if the picture of {outcome.name} is right: {shlex.quote('--accept=' + outcome.name)}")
