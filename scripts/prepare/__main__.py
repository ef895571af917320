"""Prepare raw head scans for the models, and resample predictions to raw grids: `python -m scripts.prepare [back]`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from common.errors import choice
from common.files import existing_folder
from common.values import names_of
from scripts.cli import run
from scripts.cohorts import COHORTS
from scripts.evaluate.cases import label_maps
from scripts.prepare.settings import Settings


def prepare(
    root: str,
    output: str,
    like: str,
    modalities: str | Sequence[str] | None = None,
    brain: str | None = None,
    patterns: Mapping[str, str] | None = None,
    labels: str | None = None,
    missing: str = "refuse",
    spacing: float = 1.0,
    include: str | None = None,
    jobs: int = 1,
) -> None:
    """Register and resample the raw scans of each subject, and extract the brain.

    Writes OUTPUT/SUBJECT/SUBJECT_MODALITY.nii.gz with brain mask, record and picture, and datalist.json and
    overview.html of all subjects. Repeat the command to continue. A subject that fails, or has quality figures outside
    their limits, is left out of datalist.json; the exit status is then 1. See docs/how-to/prepare-raw-scans.md.

    Args:
        root: folder of raw scans: a folder for each subject, flat files SUBJECT_MODALITY.nii.gz, BIDS or nnU-Net's
            layout, as python -m scripts.datalists generic reads them. Convert DICOM with dcm2niix.
        output: folder of the prepared subjects.
        like: cohort whose space, grid, modalities and brain extraction to use, such as ukb, brats or atlas.
        modalities: modalities to prepare, in channel order, such as [T1,FLAIR]; by default the cohort's. The reference
            (T1, or else T1ce, or else the first) is registered to the template, the rest to the reference.
        brain: deepbet (for T1 of adults), a file name pattern of your masks on the reference's grid, such as
            "*_brain.nii.gz", or none (keep the head); by default as in the cohort.
        patterns: pattern of each modality's files, such as "{'T1': '*_T1w.nii.gz'}", or the words at the end of
            their names or paths, such as pre/T1, instead of the usual words.
        labels: words that end the names or paths of label maps, such as lesion_mask, or their pattern, such as
            "masks/*"; by default the usual words, as in python -m scripts.datalists generic; none to leave label
            maps out. A label map is resampled like the scan on the same grid, to SUBJECT_seg.nii.gz.
        missing: refuse a subject that lacks a modality, or keep it with its available modalities.
        spacing: edge of the result's voxels in mm, 1 to 4. The models were trained on 1.
        include: subjects to include with quality figures outside their limits, such as "sub-01,sub-02", if their
            pictures look right. They stay included until their files or the settings change.
        jobs: number of subjects prepared in parallel; each takes up to 2 GB of memory at 1 mm.
    """
    cohort = choice("like", like, COHORTS)
    names = tuple(cohort.modalities if modalities is None else names_of(modalities))
    settings = Settings(like, names, cohort.space.brain if brain is None else brain, spacing)
    source = existing_folder(root, f"--root={root}", "a folder of raw scans")
    from scripts.prepare.cohort import output_folder, prepare_scans  # late import: slow

    outcomes = prepare_scans(source, output_folder(output, source), settings, patterns, labels, missing, include, jobs)
    if not all(outcome.is_usable for outcome in outcomes):
        raise SystemExit(1)


def back(prepared: str, predictions: str, output: str, modality: str | None = None) -> None:
    """Resample label maps of prepared scans to the raw scans' grids, as OUTPUT/SUBJECT.nii.gz.

    Each voxel gets the label that fills most of it. If a label map fails, the exit status is 1.

    Args:
        prepared: output folder of `python -m scripts.prepare`.
        predictions: folder of label maps SUBJECT.nii.gz.
        output: folder for the results; results of changed label maps or preparations are replaced.
        modality: modality of the raw scans; by default the reference.
    """
    source = existing_folder(prepared, f"--prepared={prepared}", "the output folder of scripts.prepare")
    files = label_maps("predictions", predictions)
    from scripts.prepare.cohort import output_folder, send_all  # late import: slow

    target = output_folder(output, Path(predictions).expanduser(), source)
    outcomes = send_all(files, source, target, modality)
    if not all(outcome.is_usable for outcome in outcomes):
        raise SystemExit(1)


if __name__ == "__main__":
    run({"back": back}, "prepare", default=prepare)
