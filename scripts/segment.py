"""Segment raw scans and write label maps on their grids: `python -m scripts.segment SCANS --bundle=B --output=DIR`."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common import ROOT, made, weights
from common.errors import choice, shortened, show
from common.files import digest, existing_folder
from common.options import BUNDLES
from scripts import cli
from scripts.cohorts import COHORTS, LIKE
from scripts.prepare.settings import Settings
from scripts.provenance import is_skull_stripped, space_of

PREPARED, PREDICTED, LABELS = "prepared", "predicted", "labels"  # folders in the output


def segment(
    scans: str,
    bundle: str,
    output: str,
    checkpoint: str | None = None,
    like: str | None = None,
    brain: str | None = None,
    patterns: Mapping[str, str] | None = None,
    missing: str = "refuse",
    device: str = "cpu",
    include: str | None = None,
    jobs: int = 1,
    grid: str | None = None,
) -> None:
    """Prepare raw scans as a model expects them, segment them, and resample the label maps to the raw scans' grids.

    Writes OUTPUT/labels/SUBJECT.nii.gz, on the grid of the subject's raw T1, with a picture, SUBJECT.png, and
    OUTPUT/labels/volumes.csv. Look at OUTPUT/prepared/overview.html first: it shows how the scans were prepared.
    OUTPUT/predicted has the label maps in the space of the prepared scans. Repeat the command to continue after an
    interruption or with more scans; results of changed scans or weights are replaced. A subject that cannot be
    prepared, or whose preparation is outside its limits, is left out; the exit status is then 1.

    Args:
        scans: folder of raw scans, as python -m scripts.prepare reads it.
        bundle: bundle of the model: brats_finetune or atlas_finetune.
        output: folder of all results.
        checkpoint: weights of a training run; by default models/model.pt of the bundle.
        like: target space of the training scans: ukb, brats or atlas; by default the one that the checkpoint states,
            else the bundle's.
        brain: brain extraction, by default as for the training scans; see python -m scripts.prepare.
        patterns: pattern of the file names of each modality; see python -m scripts.prepare.
        missing: refuse or keep a subject that lacks a modality; keep is for models trained with missing modalities.
        device: cpu or cuda.
        include: subjects to include with quality figures outside their limits; see python -m scripts.prepare.
        jobs: number of subjects prepared at a time.
        grid: modality whose raw grid the label maps get, in OUTPUT/labels/MODALITY, such as FLAIR; by default the
            preparation's reference (T1, or else T1ce, or else the first).
    """
    usual = choice("bundle", bundle, LIKE)
    root = existing_folder(scans, f"--scans={scans}", "a folder of raw scans")
    from scripts.prepare.cohort import output_folder, prepare_scans  # late import: slow

    folder = output_folder(output, root)
    file = Path(checkpoint or BUNDLES / bundle / "models" / "model.pt").expanduser()
    import torch  # late import: slow

    torch.set_num_threads(1)  # a process that has started OpenMP's threads cannot fork workers that use them
    record = weights.metadata_of(file)
    weights.check_bundle(record, file, bundle)
    space = space_of(record, usual, file)
    if like not in (None, space):
        show(f"warning: --like={like}: expected {space}, unless {file} was trained on scans like {like}", error=True)
    cohort = choice("like", like or space, COHORTS)
    convention = record.get("label_convention", str(COHORTS[usual].convention))
    stated = {"modalities": COHORTS[usual].modalities, "brain": cohort.space.brain} | _as_trained(record)
    stated |= {} if brain is None else {"brain": brain}
    settings = Settings(like or space, **stated)
    if grid is not None:
        choice("grid", grid, settings.modalities)
    outcomes = prepare_scans(root, folder / PREPARED, settings, patterns, "none", missing, include, jobs)
    if not any(outcome.is_usable for outcome in outcomes):  # the lines above say why
        raise SystemExit(1)
    is_complete = predict(bundle, file, folder, device)
    stamps = made.read_origin(folder / PREDICTED).get("inputs", {})
    names = [outcome.name for outcome in outcomes if outcome.is_usable and outcome.name in stamps]
    maps = {subject: folder / PREDICTED / f"{subject}.nii.gz" for subject in sorted(names)}
    outcomes += bring_back(maps, folder, grid, convention)
    if not (is_complete and all(outcome.is_usable for outcome in outcomes)):
        raise SystemExit(1)


def bring_back(maps: Mapping[str, Path], folder: Path, modality: str | None, convention: str) -> list[Any]:
    """Resample label maps to a modality's raw grids, write pictures and volumes, and return each subject's outcome.

    `modality` None means the preparation's reference. Subjects without the modality are left out.
    """
    from common.inference.outputs import write_volumes
    from scripts.prepare.cohort import read_record, send_all
    from scripts.prepare.picture import draw_labels
    from scripts.prepare.volumes import read_labels, read_volume

    prepared, target = folder / PREPARED, folder / LABELS / (modality or "")
    records = {subject: read_record(prepared / subject) for subject in maps}
    names = {subject: modality or record["reference"] for subject, record in records.items()}
    files = {subject: maps[subject] for subject, name in names.items() if name in records[subject]["transforms"]}
    if not files:
        return []
    outcomes = send_all(files, prepared, target, modality)
    for subject in (outcome.name for outcome in outcomes if not outcome.fault):
        scan = Path(records[subject]["sources"][names[subject]]["file"])
        if scan.is_file():  # it may have moved
            labels, title = read_labels(target / f"{subject}.nii.gz"), f"{subject}, {names[subject]}"
            draw_labels(read_volume(scan), labels, target / f"{subject}.png", title, convention)
    present = {file.name.removesuffix(".nii.gz") for file in target.glob("*.nii.gz")}
    if others := sorted(present - files.keys()):
        show(f"warning: {target} also has files of earlier runs or of the user: {shortened(others)}", error=True)
    written = sorted(present & made.read_origin(target).get("inputs", {}).keys())  # by these weights
    write_volumes(target, convention, written)  # an affine registration has changed them
    show(f"label maps, pictures and volumes.csv: {target}")
    return outcomes


def _as_trained(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the preparation options that a checkpoint's record determines: any of modalities, brain and spacing."""
    options: dict[str, Any] = {}
    if modalities := record.get("modalities"):
        options["modalities"] = list(modalities)
    if (is_stripped := is_skull_stripped(record)) is not None:
        options["brain"] = "deepbet" if is_stripped else "none"
    if measured := record.get("measured"):
        options["spacing"] = float(max(1, min(measured["spacing"][0])))
    return options


def predict(bundle: str, checkpoint: Path, folder: Path, device: str) -> bool:
    """Run inference on the prepared scans in a separate process, to free its memory; return whether all succeeded.

    The process prints its failures. Label maps by different weights are replaced.
    """
    prepared, earlier = folder / PREPARED, made.read_origin(folder / PREDICTED)
    is_same = [*earlier["checkpoints"].values()] in ([], [digest(checkpoint)])
    options = [f"--dataset_dir={prepared}", f"--datalist={prepared / 'datalist.json'}", f"--checkpoint={checkpoint}"]
    options += [f"--output_dir={folder / PREDICTED}", f"--existing={'skip' if is_same else 'replace'}"]
    command = [sys.executable, "-m", "scripts.run", bundle, "inference", *options, f"--device={device}"]
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": paths, "PYTHONSAFEPATH": "1"}  # no folder `common` of the current folder
    status = subprocess.run(command, env=environment, check=False).returncode
    if status not in (0, 1):  # such as a full disk, or killed
        show(f"the inference ended with status {status}", error=True)
        raise SystemExit(2)
    return status == 0


if __name__ == "__main__":
    cli.run(segment, "segment")
