"""The application: `python -m deploy.app --input=STUDY --bundle=BUNDLE --output=DIR`; see README.md in this folder."""

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from common.errors import InputError, choice, explained, show
from deploy.bundle import open_bundle, split_options
from deploy.dicom.geometry import grid_of
from deploy.dicom.series.choice import choose_series, parse_series_option
from deploy.dicom.series.evidence import candidates_of
from deploy.dicom.series.words import read_table
from deploy.dicom.study import read_study
from deploy.job import REPORT, Job
from deploy.process import exit_cleanly_on_signals, restrict_output, run_guarded
from scripts.cli import run
from scripts.prepare.volumes import check_head_grid

HELD_STATUS = 3  # exit status of a run whose results a person should see first


def segment(
    input: str = os.environ.get("HOLOSCAN_INPUT_PATH", ""),  # MONAI Deploy's names of options and variables
    bundle: str = os.environ.get("HOLOSCAN_MODEL_PATH", ""),
    output: str = os.environ.get("HOLOSCAN_OUTPUT_PATH", ""),
    series: str = "",
    reference: str = "",
    checkpoint: str = "",
    bundle_options: str = "",
    force: bool = False,
    prepare: bool = False,
    series_names: str = "",
    preview: bool = False,
) -> None:
    """Segment a DICOM study; write its results as DICOM files, and result.json.

    The exit status is 3 if `held` in result.json lists what a person should look at first.

    Args:
        input: folder with the DICOM files of one study, also in subfolders; by default the variable
            HOLOSCAN_INPUT_PATH.
        bundle: folder such as bundles/brats_finetune, with weights; by default the variable HOLOSCAN_MODEL_PATH.
        output: folder for the results, created if missing; by default the variable HOLOSCAN_OUTPUT_PATH.
        series: numbers or UIDs of series, such as T1=5,T1ce=9; rules choose the series of the remaining modalities.
        reference: modality whose series gives the grid of the result; by default T1ce for tumours (without T1ce, the
            model's first), T1 for strokes.
        checkpoint: file of weights; by default models/model.pt of the bundle.
        bundle_options: additional options of the bundle's inference, such as "--model_size=tiny --overlap=0.25".
        force: continue despite unmet preconditions; the summary lists them.
        prepare: register the scans to each other and to the model's space, and extract the brain if the model expects
            that. Preconditions are checked afterwards, and results are resampled to the grid of the reference series.
        series_names: YAML file with the modality of each of the site's series names or patterns.
        preview: print the evidence for each series, then the series that would be chosen or an open question; write
            nothing.
    """
    places = {"input": input, "bundle": bundle} | ({} if preview else {"output": output})
    if missing := [name for name, value in places.items() if not value]:
        raise InputError(f"--{missing[0]}: missing; it has no default")
    options = split_options(bundle_options)
    model = open_bundle(Path(bundle), Path(checkpoint) if checkpoint else None)
    if reference:
        choice("reference", reference, model.modalities)
    requested = parse_series_option(series, model.modalities)
    names = read_table(Path(series_names) if series_names else None)
    folder = Path(output)
    if not preview and folder.resolve().is_relative_to(Path(input).resolve()):
        raise InputError("--output: inside --input; expected a folder outside the study")
    study = read_study(Path(input))
    if preview:
        for scan in candidates_of(study, names):
            show(f"{scan.series.name}, {len(scan.series.instances)} images: {scan.reason}")
    selection = choose_series(study, model.modalities, requested, not prepare, names)
    for modality, selected in selection.series.items():
        check_head_grid(grid_of([instance.header for instance in selected.instances], selected.name)[0], selected.name)
        show(f"{modality}: {selected.name}, {len(selected.instances)} images; {selection.reasons[modality]}")
    if preview:
        show(*(f"remark: {remark.text}" for remark in selection.remarks))
        return
    exit_cleanly_on_signals()
    temporary = _working_folder(folder)
    try:
        job = Job(model, selection, reference or model.reference, temporary, options, force, prepare)
        run_guarded(_run_operator, job)
        report = json.loads((temporary / REPORT).read_text())
        for remark in report["remarks"]:
            show(f"remark: {remark['text']}")
        show(f"wrote {', '.join(_deliver(temporary, folder))}")
        if report["held"]:
            raise SystemExit(HELD_STATUS)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _working_folder(output: Path) -> Path:
    """Return a new folder in the output that only this user can read; refuse an output with results.

    Messages do not contain the output's name, which may identify the patient.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        _refuse_results(output, [REPORT])
        return Path(tempfile.mkdtemp(prefix=".unfinished-", dir=output.absolute()))
    except OSError as error:
        raise InputError(f"--output: {error.strerror}; expected a writable folder") from error


def _refuse_results(output: Path, names: Sequence[str]) -> None:
    if existing := [name for name in names if (output / name).exists()]:
        raise InputError(f"--output: contains {existing[0]}; expected a folder without results")


def _deliver(temporary: Path, output: Path) -> list[str]:
    """Move the DICOM files that the operator wrote, then the report, to the output; return their names.

    Existing files are not overwritten. If a move fails or a signal interrupts it, no result is left.
    """
    names = [*sorted(file.name for file in temporary.glob("*.dcm")), REPORT]
    _refuse_results(output, names)
    try:
        for name in names:
            (temporary / name).rename(output / name)
    except BaseException:
        for name in names:
            (output / name).unlink(missing_ok=True)
        raise
    return names


def _run_operator(job: Job) -> None:
    from deploy.operator import SegmentationApplication  # slow import: bad input is refused first

    try:
        SegmentationApplication(job).run()
    except Exception as error:
        if message := explained(error):  # without the output's folder, which may name the patient
            raise InputError(message.replace(f"{job.folder}/", "")) from None
        raise


if __name__ == "__main__":
    restrict_output()
    run(segment, "deploy.app")
