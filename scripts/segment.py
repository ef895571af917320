"""Segment raw scans and write label maps on their grids: `python -m scripts.segment SCANS --bundle=B --output=DIR`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common import made, weights
from common.errors import choice, shortened, show
from common.files import digest, existing_folder
from scripts import cli
from scripts.cohorts import COHORTS, LIKE
from scripts.configs import BUNDLES
from scripts.prepare.settings import Settings
from scripts.provenance import check_bundle, is_skull_stripped, space_of

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
        bundle: bundle of the model, such as brats_finetune or atlas_finetune.
        output: folder of all results.
        checkpoint: weights of a training run; by default models/model.pt of the bundle.
        like: target space of the training scans, such as ukb, brats or atlas; by default the one that the checkpoint
            states, else the bundle's.
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
    import torch  # late imports: slow

    from scripts.prepare.cohort import output_folder, prepare_scans

    torch.set_num_threads(1)  # a process that has started OpenMP's threads cannot fork workers that use them
    folder = output_folder(output, root)
    file = Path(checkpoint or BUNDLES / bundle / "models" / "model.pt").expanduser()
    record = weights.metadata_of(file)
    check_bundle(record, file, bundle)
    space = space_of(record, usual, file)
    if like not in (None, space):
        show(f"warning: --like={like}: expected {space}, unless {file} was trained on scans like {like}", error=True)
    convention = record.get("label_convention", str(COHORTS[usual].convention))
    settings = settings_of(record, COHORTS[usual].modalities, like or space, brain)
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


def settings_of(record: Mapping[str, Any], modalities: Sequence[str], like: str, brain: str | None) -> Settings:
    """Return how the training scans were prepared, by a checkpoint's record; what it leaves open is as in `like`."""
    is_stripped, measured = is_skull_stripped(record), record.get("measured")
    usual = choice("like", like, COHORTS).space.brain
    trained = usual if is_stripped is None else "deepbet" if is_stripped else "none"
    spacing = float(max(1, min(measured["spacing"][0]))) if measured else 1.0
    return Settings(like, tuple(record.get("modalities") or modalities), brain or trained, spacing)


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


def predict(bundle: str, checkpoint: Path, folder: Path, device: str) -> bool:
    """Run inference on the prepared scans in a separate process, to free its memory; return whether all succeeded.

    The process prints its failures. Label maps by different weights are replaced.
    """
    earlier = made.read_origin(folder / PREDICTED)["checkpoints"].values()
    options = {
        "dataset_dir": folder / PREPARED,
        "datalist": folder / PREPARED / "datalist.json",
        "checkpoint": checkpoint,
        "output_dir": folder / PREDICTED,
        "existing": "skip" if {*earlier} <= {digest(checkpoint)} else "replace",
        "device": device,
    }
    try:
        cli.run_step(["scripts.run", bundle, "inference", *cli.words_of(options)])
    except SystemExit as error:
        if error.code != 1:  # not failed subjects, but such as a full disk, or killed
            raise
        return False
    return True


if __name__ == "__main__":
    cli.run(segment, "segment")
