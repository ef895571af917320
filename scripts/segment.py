"""Segment raw scans, with label maps on the scans' grids: `python -m scripts.segment SCANS --bundle=BUNDLE
--output=DIR`.
"""

import inspect
import re
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import cli, weights
from common.data.provenance import is_skull_stripped
from common.errors import InputError, choice, input_error_message, shortened, show
from common.files import digest, expand_home, read_json, why_no_file, write_json
from common.training.signals import interrupt_on_signals
from scripts.prepare import __main__ as preparation
from scripts.weights import network_of

if TYPE_CHECKING:
    from common.inference import Volumes

ROOT = Path(__file__).resolve().parents[1]
LIKE = {"brats_finetune": "brats", "atlas_finetune": "atlas"}  # bundle -> cohort that its model was trained on
CONVENTION = {"brats": "brats2021", "atlas": "atlas"}  # label convention, if the checkpoint states none
PREPARED, PREDICTED, LABELS = "prepared", "predicted", "labels"  # folders in the output
RESULTS = (PREDICTED, LABELS)
NOTES = ".made_of"  # folder in PREDICTED: the sources of each label map


def segment(
    scans: str,
    bundle: str,
    output: str,
    checkpoint: str | None = None,
    like: str | None = None,
    brain: str | None = None,
    patterns: Mapping[str, str] | None = None,
    series: Mapping[str, str] | None = None,
    missing: str = "refuse",
    device: str = "cpu",
    accept: str | None = None,
    jobs: int = 1,
) -> None:
    """Prepare raw scans as a model expects them, segment them, and bring the label maps back to the scans' own grids.

    Writes OUTPUT/labels/SUBJECT.nii.gz, on the grid of the subject's T1, and OUTPUT/labels/volumes.csv, the regions'
    volumes there. Look at OUTPUT/prepared/overview.html first: it shows how the scans were prepared. OUTPUT/predicted
    has the label maps in the space of the prepared scans. Repeat the command to go on after an interruption, or with
    more scans; what was made of other scans or other weights is replaced, and other label maps stay. A subject that
    cannot be prepared, or whose preparation is outside its limits, is reported in one line and left out; the exit
    status is then 1.

    Args:
        scans: folder of raw scans, NIfTI or DICOM, as python -m scripts.prepare reads it.
        bundle: bundle of the model: brats_finetune or atlas_finetune.
        output: folder of all results.
        checkpoint: weights of a training; by default models/model.pt of the bundle.
        like: target space of the training's scans: ukb, brats or atlas; by default the bundle's.
        brain: brain extraction, by default that of the training's scans; see python -m scripts.prepare.
        patterns: modality -> pattern of its files' names; see python -m scripts.prepare.
        series: subject -> DICOM series to use; see python -m scripts.prepare.
        missing: refuse a subject that lacks a modality, or keep it, for a model that was trained with missing ones.
        device: cpu or cuda.
        accept: subjects that are outside the limits but right, by their pictures; see python -m scripts.prepare.
        jobs: number of subjects prepared at a time.
    """
    from common.inference.segmentations import Volumes, write_label_tables  # late import: `--help` stays fast
    from common.prepare.targets import TARGETS
    from scripts.prepare.labels import read_labels

    interrupt_on_signals()  # so that the inference ends, too
    usual = choice("bundle", bundle, LIKE)
    folder = preparation.output_folder(output, expand_home(scans, scans))
    check_made_here(folder)
    default = ROOT / "bundles" / bundle / "models" / "model.pt"
    given = default if checkpoint is None else weights.path_of("checkpoint", checkpoint)
    file = expand_home(given, f"--checkpoint={checkpoint}")
    if not file.is_file():
        raise InputError(f"--checkpoint={file}: {why_no_file(file)}; expected one file, of a training of {bundle}")
    trained = _read(file)
    record = trained.metadata
    is_swin = record.get("architecture", "swin_unetr") == "swin_unetr"
    if is_swin and (network := network_of(trained.state)) != "SwinUNETR":
        raise InputError(f"--checkpoint={file}: holds {network}; expected the weights of a training of {bundle}")
    if (of := record.get("bundle", bundle)) != bundle:
        raise InputError(f"--checkpoint={file}: of the bundle {of}; expected the weights of a training of {bundle}")
    if like in TARGETS and like != usual:
        show(
            f"warning: --like={like}: expected {usual}, unless {file} is of a training on scans like {like}", error=True
        )
    convention = record.get("label_convention", CONVENTION[usual])
    volumes = {part: Volumes(str(folder / part), convention) for part in RESULTS}
    options = _as_trained(record) | {"like": like or usual, "device": device, "accept": accept, "jobs": jobs}
    options |= {"patterns": patterns, "series": series, "missing": missing}
    if brain is not None:
        options["brain"] = brain
    try:
        is_complete = _passes(preparation.prepare, scans, str(folder / PREPARED), labels="none", **options)
    except InputError as error:  # names options of `prepare`, of which some come from the weights
        message = (input_error_message(error) or "").replace(f"--root={scans}", scans)
        foreign = {*re.findall(r"--(\w+)", message)} - {*inspect.signature(segment).parameters}
        hint = f" (an option of scripts.prepare, set from {file})" if foreign else ""
        raise InputError(f"{message}{hint}") from None
    subjects = _prepared(folder / PREPARED)
    if not subjects:  # the lines above say why
        raise SystemExit(1)
    sources = _sources(folder / PREPARED, subjects, file)
    forget(volumes[PREDICTED], sources)
    is_complete &= predicts(bundle, file, folder, device)
    predicted = {subject for subject, _ in Volumes(str(folder / PREDICTED), convention).rows} & {*subjects}
    if not predicted:
        raise SystemExit(1)
    is_complete &= bring_back(folder, {subject: sources[subject] for subject in sorted(predicted)})
    labels = {file.name.removesuffix(".nii.gz"): file for file in sorted((folder / LABELS).glob("*.nii.gz"))}
    if earlier := sorted({*labels} - predicted):
        show(f"warning: {folder / LABELS} keeps {shortened(earlier)}, of an earlier run", error=True)
    volumes[LABELS].keep(labels)
    for subject in sorted(predicted & labels.keys()):  # an affine registration has changed the volumes
        read = read_labels(labels[subject])
        volumes[LABELS].measure(subject, read.array, read.affine)
    volumes[LABELS].write()
    write_label_tables(folder / LABELS, convention)
    show(f"label maps and volumes.csv: {folder / LABELS}")
    if not is_complete:
        raise SystemExit(1)


def _read(file: Path) -> "weights.Checkpoint":
    """A checkpoint, read in one thread: forked workers, as those of the preparation, hang after OpenMP's threads."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return weights.read(file)
    finally:
        torch.set_num_threads(threads)


def _prepared(folder: Path) -> list[str]:
    """The subjects in the datalist of a preparation."""
    return [case["subject"] for case in read_json(folder / "datalist.json")["testing"]]


def _sources(prepared: Path, subjects: Collection[str], checkpoint: Path) -> dict[str, dict[str, str]]:
    """For each subject, the checksums of the weights and of the record of its prepared scans."""
    from scripts.prepare.subjects import RECORD

    weights_digest = digest(checkpoint)
    return {name: {"weights": weights_digest, "scans": digest(prepared / name / RECORD)} for name in subjects}


def check_made_here(folder: Path) -> None:
    """Refuse label maps that no earlier run has made, which would be replaced."""
    for part in RESULTS:
        for file in (folder / part).glob("*.nii.gz"):
            note = folder / PREDICTED / NOTES / f"{file.name.removesuffix('.nii.gz')}.json"
            if not note.is_file():
                raise InputError(f"{file}: not of an earlier run; expected another --output")


def forget(predicted: "Volumes", sources: Mapping[str, Mapping[str, str]]) -> None:
    """Drop the volumes of subjects whose scans or weights have changed, so that inference replaces their label maps.

    Records the sources.
    """
    from scripts.prepare.subjects import is_made_of

    notes = predicted.path.parent / NOTES
    changed = {name for name, made_of in sources.items() if not is_made_of(notes / f"{name}.json", made_of)}
    predicted.keep({subject for subject, _ in predicted.rows} - changed)
    predicted.write()
    for subject in changed:
        write_json(notes / f"{subject}.json", sources[subject])


def bring_back(folder: Path, sources: Mapping[str, Mapping[str, str]]) -> bool:
    """Write label maps on the raw scans' grids; return whether it succeeds for all subjects.

    What was written from the same sources stays: it may have been corrected by hand.
    """
    from scripts.prepare.subjects import is_made_of

    labels = {subject: folder / LABELS / f"{subject}.nii.gz" for subject in sources}
    notes = {subject: folder / PREDICTED / NOTES / f"{subject}.json" for subject in sources}
    made_of = {subject: {**source, "part": LABELS} for subject, source in sources.items()}
    new = [name for name in sources if not (labels[name].is_file() and is_made_of(notes[name], made_of[name]))]
    maps = {subject: folder / PREDICTED / f"{subject}.nii.gz" for subject in new}
    before = {subject: _written(labels[subject]) for subject in new}
    is_complete = not new or _passes(preparation.send_all, maps, folder / PREPARED, folder / LABELS)
    for subject in new:
        if _written(labels[subject]) != before[subject]:
            write_json(notes[subject], made_of[subject])
    return is_complete


def _written(file: Path) -> tuple[int, int] | None:
    """What changes whenever a file is written; None without a file."""
    return (file.stat().st_ino, file.stat().st_mtime_ns) if file.is_file() else None


def _as_trained(record: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the preparation that a checkpoint's record sets: modalities, brain and spacing."""
    options: dict[str, Any] = {}
    if modalities := record.get("modalities"):
        options["modalities"] = list(modalities)
    if (is_stripped := is_skull_stripped(record)) is not None:
        options["brain"] = "deepbet" if is_stripped else "none"
    if measured := record.get("measured"):
        options["spacing"] = float(max(1, min(measured["spacing"][0])))
    return options


def _passes(command: Callable[..., None], *arguments: Any, **options: Any) -> bool:
    """Run a command that reports its failures; return whether it succeeds for all subjects."""
    try:
        command(*arguments, **options)
    except SystemExit:
        return False
    return True


def predicts(bundle: str, checkpoint: Path, folder: Path, device: str) -> bool:
    """Run inference, which reports its failures; return whether it succeeds for all subjects."""
    prepared = folder / PREPARED
    options = [f"--dataset_dir={prepared}", f"--datalist={prepared / 'datalist.json'}", f"--checkpoint={checkpoint}"]
    options += [f"--output_dir={folder / PREDICTED}", "--existing=skip", f"--device={device}"]
    command = ["-m", "scripts.run", bundle, "inference", *options]
    status = subprocess.run([sys.executable, *command], cwd=ROOT, check=False).returncode
    if status:
        show(f"the options named above are those of: {cli.command_line(['python', *command])}", error=True)
    if status == 2:  # such as a full disk
        raise SystemExit(status)
    return status == 0


if __name__ == "__main__":
    cli.run(segment, "segment")
