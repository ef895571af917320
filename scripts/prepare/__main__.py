"""Raw head scans to what the models expect, and predictions back: `python -m scripts.prepare [back]`."""

import shlex
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.cli import run
from common.data.layouts.listing import stem_of
from common.errors import InputError, check_number, choice, shortened, show
from common.files import check_writable_folder, expand_home, reporting_path_errors, why_no_folder
from common.literals import names_of
from common.values import DEVICE
from scripts.arrays import array_of

if TYPE_CHECKING:
    from common.prepare.subject import Settings
    from scripts.prepare.subjects import Outcome


def prepare(
    root: str,
    output: str,
    like: str,
    modalities: str | Sequence[str] | None = None,
    brain: str | None = None,
    patterns: Mapping[str, str] | None = None,
    series: Mapping[str, str] | None = None,
    labels: str | None = None,
    missing: str = "refuse",
    spacing: float = 1.0,
    device: str = "cpu",
    accept: str | None = None,
    jobs: int = 1,
    slurm: Mapping[str, Any] | None = None,
) -> None:
    """Register, extract the brain of, and resample the raw scans of each subject.

    Writes OUTPUT/SUBJECT/SUBJECT_MODALITY.nii.gz with brain mask, transforms, a record and a picture, and for all
    subjects datalist.json, quality.csv and overview.html. Repeat the command to continue an interrupted run. A subject
    that fails, or whose figures are outside their limits, is reported in one line and left out of datalist.json; the
    exit status is then 1. See docs/how-to/prepare-raw-scans.md.

    Args:
        root: folder of raw scans: a folder for each subject, flat files SUBJECT_MODALITY.nii.gz, BIDS or nnU-Net's
            layout, as python -m scripts.datalists generic reads them; or SUBJECT/ with the DICOM files of one study,
            under any names. Where a subject has NIfTI files, too, these are taken.
        output: folder of the prepared subjects.
        like: ukb, brats or atlas: space, grid, modalities and brain as in that cohort.
        modalities: modalities to prepare, in channel order, such as [T1,FLAIR]; by default the cohort's. T1, or
            else T1ce, or else the first is registered to the template, the others to it.
        brain: deepbet (for T1 of adults), a pattern of the names of your own masks on that scan's grid, such as
            "*_brain.nii.gz", or none (keep the head); by default as in the cohort.
        patterns: modality -> pattern of its files, such as "{'T1': '*_T1w.nii.gz'}", or the words that end their names
            or paths, such as pre/T1, instead of the usual.
        series: subject -> DICOM series to use, by number or UID, such as "{'sub-01': 'T1=5,T1ce=9'}", where the headers
            do not tell; rules choose the others (deploy/README.md).
        labels: words that end the names or paths of label maps, such as lesion_mask, or their pattern, such as
            "masks/*"; by default the usual ones, as of python -m scripts.datalists generic; none to leave label
            maps out. Each is brought along from the grid of the scan that it was drawn on, as SUBJECT_seg.nii.gz.
        missing: refuse a subject that lacks a modality, or keep it, prepared with those that it has (NIfTI only).
        spacing: edge of the result's voxels in mm, 1 to 4. The models were trained on 1.
        device: cpu or cuda, for the brain extraction.
        accept: subjects whose figures are outside their limits, but whose pictures show that they are right, such as
            "sub-01,sub-02", or all. They stay accepted as long as their files and the settings stay the same.
        jobs: subjects at a time; each takes up to 2 GB of memory at 1 mm. With `slurm`, the number of SLURM jobs, each
            of which prepares its part of the subjects, one at a time.
        slurm: settings of SLURM jobs by submitit's names, such as "{'slurm_partition': 'cpu', 'cpus_per_task': 2}";
            without, subjects are prepared on this machine. All nodes must share the folders.
    """
    from scripts.prepare.cohort import PAGE, prepare_cohort  # imported late to keep `--help` fast, as below
    from scripts.prepare.scans import find_subjects

    settings = _settings(like, modalities, brain, spacing, device)
    if slurm is None:  # else its nodes have the devices
        DEVICE.parse("device", device)
    check_number("jobs", jobs, int, 1, 1024)
    source = expand_home(root, f"--root={root}")
    keeps_missing = choice("missing", missing, {"refuse": False, "keep": True})
    if labels is not None and not isinstance(labels, str):
        raise InputError(f"--labels={labels}: expected words that end file names, such as seg, or a pattern")
    names = settings.modalities
    masks = settings.brain if "*" in settings.brain else None
    subjects = find_subjects(
        source, names, _patterns(patterns, names), _series(series, names), labels, keeps_missing, masks
    )
    accepted = accepted_of(accept, [subject.name for subject in subjects])
    folder = output_folder(output, source)
    array = None if slurm is None else array_of(slurm, folder, "prepare", jobs)
    outcomes = prepare_cohort(subjects, settings, folder, jobs, accepted, array)
    _report(outcomes, f"prepared: {folder / PAGE}")


def back(prepared: str, predictions: str, output: str, modality: str | None = None, jobs: int = 1) -> None:
    """Write label maps in the space of prepared scans back to the grids of the raw scans, as OUTPUT/SUBJECT.nii.gz.

    Each voxel gets the label that fills most of it. A label map that fails is reported in one line; the exit status is
    then 1.

    Args:
        prepared: output folder of `python -m scripts.prepare`.
        predictions: folder of label maps SUBJECT.nii.gz.
        output: folder for the results; those of earlier runs are replaced.
        modality: modality with the raw grid to use; by default the reference.
        jobs: subjects at a time.
    """
    from scripts.prepare.subjects import RECORD

    check_number("jobs", jobs, int, 1, 1024)
    source = expand_home(prepared, f"--prepared={prepared}")
    maps = expand_home(predictions, f"--predictions={predictions}")
    for name, folder in (("prepared", source), ("predictions", maps)):
        with reporting_path_errors(f"--{name}={folder}"):
            if not folder.is_dir():
                raise InputError(f"--{name}={folder}: {why_no_folder(folder)}; expected a folder")
    files: dict[str, Path] = {}
    for path in sorted(maps.iterdir()):
        if (subject := stem_of(path.name)) and (first := files.setdefault(subject, path)) != path:
            raise InputError(f"--predictions={predictions}: {first.name} and {path.name}; expected one label map")
    if not files:
        raise InputError(f"--predictions={predictions}: no label map; expected files SUBJECT.nii.gz")
    subjects = [folder for folder in sorted(source.iterdir()) if (folder / RECORD).is_file()]
    if not subjects:
        raise InputError(f"--prepared={prepared}: no prepared subject; expected the output folder of scripts.prepare")
    send_all(files, source, output_folder(output, maps, source), modality, jobs)


def send_all(
    files: Mapping[str, Path], prepared: Path, target: Path, modality: str | None = None, jobs: int = 1
) -> None:
    """Write the label maps of prepared subjects to the grids of their raw scans; see `back`."""
    from scripts.prepare.cohort import run_in_processes
    from scripts.prepare.subjects import send_back

    work = {name: partial(send_back, path, name, prepared, target, modality) for name, path in files.items()}
    outcomes = run_in_processes(work, jobs, "label map")
    _report(outcomes, f"written to {target}" if any(outcome.is_new for outcome in outcomes) else "nothing written")


def _settings(
    like: str, modalities: str | Sequence[str] | None, brain: str | None, spacing: float, device: str
) -> "Settings":
    """Check the options, and fill in the cohort's defaults."""
    from common.prepare.brain import DEEPBET
    from common.prepare.subject import Settings
    from common.prepare.targets import TARGETS

    cohort = choice("like", like, TARGETS)
    names = cohort.modalities if modalities is None else modalities
    names = tuple(names_of(names))
    if not names or not all(isinstance(name, str) and name.isalnum() for name in names) or len(set(names)) < len(names):
        raise InputError(
            f"--modalities={modalities}: expected different names of letters and digits, such as [T1,FLAIR]"
        )
    found = cohort.brain if brain is None else brain
    if "*" not in str(found):
        choice("brain", found, dict.fromkeys((DEEPBET, "none", "a pattern such as *_brain.nii.gz")))
    choice("device", device, dict.fromkeys(("cpu", "cuda")))
    check_number("spacing", spacing, float, 1, 4)
    return Settings(like, names, found, float(spacing), device)


def _patterns(patterns: Any, modalities: Sequence[str]) -> Mapping[str, str]:
    if patterns is None:
        return {}
    if not isinstance(patterns, Mapping) or not all(isinstance(each, str) for each in patterns.values()):
        raise InputError(f"--patterns={patterns}: expected patterns by modality, such as \"{{'T1': '*_T1w.nii.gz'}}\"")
    for modality in patterns:
        if modality not in modalities:
            raise InputError(f"--patterns={patterns}: {modality} is not one of the modalities {', '.join(modalities)}")
    return patterns


def accepted_of(accept: str | None, subjects: Sequence[str]) -> list[str]:
    """The subjects that `--accept` names; refuse names that are not in `subjects`."""
    if accept is None:
        return []
    if not isinstance(accept, str) or not accept:
        raise InputError(f"--accept={accept}: expected names of subjects, such as sub-01,sub-02, or all")
    if accept == "all":
        return list(subjects)
    names = [accept] if accept in subjects else accept.split(",")
    for name in names:
        if name not in subjects:
            raise InputError(f"--accept={name}: no such subject; expected some of {shortened(subjects)}, or all")
    return names


def _series(series: Any, modalities: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
    if series is None:
        return {}
    if not isinstance(series, Mapping) or not all(isinstance(each, str) for each in series.values()):
        raise InputError(f"--series={series}: expected series by subject, such as \"{{'sub-01': 'T1=5,T1ce=9'}}\"")
    from deploy.series.choice import parse_series_option

    return {str(subject): parse_series_option(chosen, modalities) for subject, chosen in series.items()}


def output_folder(output: str, *sources: Path) -> Path:
    """The output folder, which can be written to or created; it must not lie in an input folder."""
    name = f"--output={output}"
    folder = expand_home(output, name)
    check_writable_folder(folder, name)
    with reporting_path_errors(name):
        if source := next((each for each in sources if folder.resolve().is_relative_to(each.resolve())), None):
            raise InputError(f"{name}: lies in {source}; expected a folder outside the input")
    return folder


def _report(outcomes: Sequence["Outcome"], done: str) -> None:
    """Print remarks and a summary; exit with status 1 if a subject failed or is outside its limits."""
    for outcome in outcomes:
        for remark in outcome.remarks:
            show(f"{outcome.name}: remark: {remark}")
    failed = [outcome.name for outcome in outcomes if outcome.fault]
    outside = [outcome.name for outcome in outcomes if outcome.is_left_out]
    new = sum(outcome.is_new for outcome in outcomes)
    counts = [
        f"{new} new",
        f"{len(outcomes) - new - len(failed)} done before",
        f"{len(failed)} failed" + (f" ({shortened(failed)})" if failed else ""),
        f"{len(outside)} outside limits",
    ]
    show(f"{', '.join(counts)}; {done}")
    if outside:
        show(f"left out of the datalist; if their pictures are right: {shlex.quote('--accept=' + ','.join(outside))}")
    if failed or outside:
        raise SystemExit(1)


if __name__ == "__main__":
    run({"back": back}, "prepare", default=prepare)
